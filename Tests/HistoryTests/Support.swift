// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import Observability
import PosixIO
import Reactor
import Testing

@testable import History

/// The longest that anything here may take; librdkafka's mock needs seconds for each rebalance.
let patience: Duration = .seconds(40)

/// Waits for something that other threads do; false where it has not come about in time.
func eventually(within limit: Duration = patience, _ condition: () -> Bool) -> Bool {
    let deadline = MonotonicTime.now + limit
    while !condition() {
        guard MonotonicTime.now < deadline else { return false }
        _ = poll(nil, 0, 1)
    }
    return true
}

/// Waits likewise without keeping a thread, for what takes seconds.
func comesAbout(within limit: Duration = patience, _ condition: () throws -> Bool) async throws
    -> Bool
{
    let deadline = MonotonicTime.now + limit
    while try !condition() {
        guard MonotonicTime.now < deadline else { return false }
        try await Task.sleep(for: .milliseconds(3))
    }
    return true
}

/// What another thread answers, once.
final class Answer<Value: Sendable>: Sendable {
    private let value = Lock<Value?>(nil)

    func give(_ value: Value) { self.value.withLock { $0 = value } }

    var isThere: Bool { value.withLock { $0 != nil } }

    func wait() throws -> Value {
        _ = eventually { isThere }
        return try #require(value.withLock { $0 }, "no answer came")
    }
}

extension EventLoop {
    /// Runs `body` on the loop and waits for what it returns.
    func value<Value: Sendable>(_ body: @escaping @Sendable () -> Value) throws -> Value {
        let answer = Answer<Value>()
        post { answer.give(body()) }
        return try answer.wait()
    }
}

extension Logger {
    /// Writes nowhere.
    static var silent: Logger { Logger("test", sink: { _ in }) }
}

/// A small deterministic generator, so that a failing seed can be run again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension [UInt8] {
    var text: String { String(decoding: self, as: UTF8.self) }
}

/// What the tests call the content of one offset: a pure function of its place.
func content(_ topic: String, _ partition: Int32, _ offset: Int64, padding: Int = 0) -> [UInt8] {
    let pad = padding == 0 ? "" : ",\"pad\":\"\(String(repeating: "x", count: padding))\""
    return bytes("{\"t\":\"\(topic)\",\"p\":\(partition),\"o\":\(offset)\(pad)}")
}

extension PartitionIngest {
    /// The next batch, which has to be there.
    mutating func nextBatch() throws -> AppendRequest {
        let batch = takeBatch()
        return try #require(batch)
    }

    /// Collects a plain event where it is new.
    mutating func collect(_ offset: Int64, _ value: [UInt8], key: [UInt8]? = nil) {
        guard isNew(offset) else { return }
        let keyBytes = key ?? []
        collect(
            offset: offset, timestamp: 1000 + offset, key: keyBytes.span, hasKey: key != nil,
            headers: [], value: value.span)
    }
}

extension BatchLayout {
    /// The events of a batch, copied out.
    static func events(_ bytes: [UInt8], base: Int64, count: Int) throws -> [HistoryEvent] {
        var layout = BatchLayout()
        let span = bytes.span
        try layout.read(span, base: base, count: count)
        return (0..<count).map { row in
            HistoryEvent(
                offset: layout.offsets[row], timestamp: layout.timestamps[row],
                key: layout.keys[row].map { Array(bytes[$0]) },
                headers: layout.headers(ofRow: row, in: span),
                value: Array(bytes[layout.values[row]]))
        }
    }
}

extension AppendRequest {
    var events: [HistoryEvent] {
        get throws { try BatchLayout.events(bytes, base: base, count: count) }
    }
}

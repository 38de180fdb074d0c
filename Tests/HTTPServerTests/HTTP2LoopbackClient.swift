// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP2TestKit
import HTTPServer

/// A client of one HTTP/2 connection over a loopback socket.
final class HTTP2LoopbackClient {
    let socket: LoopbackClient
    let http: HTTP2TestClient

    init(_ server: ServerUnderTest, _ http: HTTP2TestClient = HTTP2TestClient()) throws {
        socket = try server.client()
        self.http = http
    }

    /// Sends what waits, and reads until `condition` holds; false where the server ended or fell
    /// silent before that.
    @discardableResult
    func run(until condition: (HTTP2TestClient) -> Bool) -> Bool {
        while true {
            _ = socket.send(http.takeOutput())
            if condition(http) { return true }
            let bytes = socket.readSome()
            guard !bytes.isEmpty, http.receive(bytes) else { return condition(http) }
        }
    }

    /// Reads until the server closes.
    func runToEnd() { run { _ in false } }

    /// One request and its whole answer.
    func answer(
        to path: String, _ method: String = "GET", headers: [(String, String)] = [],
        body: [UInt8]? = nil
    ) -> HTTP2TestClient.Answer {
        let stream = http.request(method, path, headers: headers, body: body)
        run { $0.answers[stream]?.isEnded == true || $0.answers[stream]?.closedWith != nil }
        return http.answers[stream] ?? HTTP2TestClient.Answer()
    }

    /// Opens streams, and waits for the heads of their answers.
    func openStreams(_ count: Int) -> [Int32] {
        let streams = (0..<count).map { _ in http.request("GET", "/stream") }
        run { client in streams.allSatisfy { client.answers[$0]?.status == 200 } }
        return streams
    }
}

/// Numbers that are the same in each run (SplitMix64).
struct SeededNumbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}

/// Sends the body of each stream of a shard, from where it stopped.
final class BodyFeeder {
    private let bodies: [[UInt8]]
    private var sent: [Int]

    init(_ bodies: [[UInt8]]) {
        self.bodies = bodies
        sent = Array(repeating: 0, count: bodies.count)
    }

    /// Writes what the stream takes of its body, and finishes it after that.
    func feed(_ stream: ByteStream) {
        let index = stream.context
        guard index < bodies.count else { return }
        let rest = Array(bodies[index][sent[index]...])
        switch stream.write(rest) {
        case .all:
            sent[index] += rest.count
            stream.finish()
        case .some(let count): sent[index] += count
        case .ended: break
        }
    }

    var sentBytes: [Int] { sent }
}

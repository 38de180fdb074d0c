// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CBenchFloor
import Glibc
import PosixIO
import Synchronization

/// Publishes events to nchan over one connection, without waiting for answers.
final class NchanSource: EventSource {
    private let socket: OwnedDescriptor
    private let head: [UInt8]
    private let eventBytes: Int
    private let progress = Progress()
    private var pace: NamedThread?
    private let answers: NamedThread
    private var number = 0

    /// What the threads count. Relaxed: each number stands alone.
    private final class Progress: Sendable {
        let sent = Atomic<Int>(0)
        let answered = Atomic<Int>(0)
    }

    private static let answerLimit: Duration = .seconds(10)

    init(_ server: NchanServer, eventBytes: Int) throws(BenchmarkError) {
        self.eventBytes = eventBytes
        let descriptor = benchfloor_connect(server.port, 0x7f00_0001, 0)
        guard descriptor >= 0 else {
            throw BenchmarkError(.unavailable, "nchan: \(Errno(-descriptor))")
        }
        socket = OwnedDescriptor(adopting: descriptor)
        head = Array(
            ("POST \(NchanServer.publishPath) HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                + "Content-Type: application/json\r\nContent-Length: \(eventBytes)\r\n\r\n").utf8)
        let progress = progress
        answers = NamedThread("answers") { Self.countAnswers(descriptor, progress) }
    }

    deinit {
        pace?.join()
        // Wakes the thread that reads.
        _ = shutdown(socket.number, CInt(SHUT_RDWR))
        answers.join()
    }

    func begin(_ schedule: Schedule) {
        let first = number
        number += schedule.events
        let (descriptor, head, size, progress) = (socket.number, head, eventBytes, progress)
        pace = NamedThread("pace") {
            var writer = ByteWriter(reserving: 64 * 1024)
            Pace.run(schedule) { batches in
                writer.removeAll()
                let count = schedule.eventsPerBatch
                for event in (batches.lowerBound * count)..<(batches.upperBound * count) {
                    writer.append(head)
                    TimedEvent.append(
                        due: schedule.due(event / count), number: first + event, bytes: size,
                        to: &writer)
                }
                progress.sent.wrappingAdd(batches.count * count, ordering: .relaxed)
                Self.send(writer.bytes, descriptor)
            }
        }
    }

    func finish() -> Int {
        pace?.join()
        pace = nil
        let deadline = MonotonicTime.now + Self.answerLimit
        while unanswered > 0, MonotonicTime.now < deadline { _ = poll(nil, 0, 5) }
        return unanswered
    }

    private var unanswered: Int {
        progress.sent.load(ordering: .relaxed) - progress.answered.load(ordering: .relaxed)
    }

    private static func send(_ bytes: [UInt8], _ descriptor: CInt) {
        var sent = 0
        while sent < bytes.count {
            let outcome = unsafe bytes.withUnsafeBytes {
                unsafe StreamSocket.write(
                    descriptor, UnsafeRawBufferPointer(rebasing: $0[sent...]))
            }
            // What is not sent is never answered, and is counted so.
            guard case .transferred(let count) = outcome else { return }
            sent += count
        }
    }

    private static func countAnswers(_ descriptor: CInt, _ progress: Progress) {
        let wanted = Array("HTTP/1.1 20".utf8)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var matched = 0
        while true {
            let outcome = unsafe buffer.withUnsafeMutableBytes {
                unsafe StreamSocket.read(descriptor, into: $0)
            }
            guard case .transferred(let count) = outcome else { return }
            var answered = 0
            for byte in buffer.prefix(count) {
                matched = byte == wanted[matched] ? matched + 1 : byte == wanted[0] ? 1 : 0
                if matched == wanted.count {
                    answered += 1
                    matched = 0
                }
            }
            progress.answered.wrappingAdd(answered, ordering: .relaxed)
        }
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CBenchFloor
import CLinux
import EventStreamWire
import Glibc
import PosixIO

/// Clients that come back with old IDs, on the calling thread: each checks that the sequence
/// numbers of its events follow each other without a hole up to a last one.
final class ReplayReaders {
    /// One client and what it has seen.
    private final class Reader {
        let socket: OwnedDescriptor
        var carry: [UInt8] = []
        var sequence: UInt64
        var isDone = false

        init(_ socket: consuming OwnedDescriptor, after sequence: UInt64) {
            self.socket = socket
            self.sequence = sequence
        }
    }

    private(set) var events = 0
    /// Events that were missing, came twice or out of order, and gaps that were told.
    private(set) var faults = 0
    private(set) var doneCount = 0
    /// IDs of every so many events, where ``everyID`` says so.
    private(set) var ids: [EventID] = []
    private let everyID: UInt64
    private let last: UInt64
    private var readers: [Reader] = []
    private var buffer = [UInt8](repeating: 0, count: 1 << 20)

    init(last: UInt64, keepingEveryID every: UInt64 = 0) {
        self.last = last
        everyID = every
    }

    func open(port: UInt16, path: String, after id: EventID) throws(BenchmarkError) {
        let number = benchfloor_connect(port, 0x7f00_0001, 0)
        guard number >= 0 else { throw BenchmarkError(.failed, "a reader: \(Errno(-number))") }
        let reader = Reader(OwnedDescriptor(adopting: number), after: id.sequence)
        let request = Array(
            ("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nAccept: text/event-stream\r\n"
                + "Last-Event-ID: \(id)\r\n\r\n").utf8)
        let sent = unsafe request.withUnsafeBytes { unsafe StreamSocket.write(number, $0) }
        guard sent == .transferred(request.count) else {
            throw BenchmarkError(.failed, "a reader's request: \(sent)")
        }
        clinux_set_nonblocking(number)
        readers.append(reader)
    }

    /// Reads until all have the last event, or the time is over; true for the former.
    func read(within limit: Duration) throws(BenchmarkError) -> Bool {
        let deadline = MonotonicTime.now + limit
        while doneCount < readers.count {
            guard MonotonicTime.now < deadline else { return false }
            var polled = readers.map { reader in
                pollfd(
                    fd: reader.isDone ? -1 : reader.socket.number, events: Int16(POLLIN),
                    revents: 0)
            }
            _ = unsafe poll(&polled, nfds_t(polled.count), 100)
            for index in polled.indices where polled[index].revents != 0 {
                try readOnce(readers[index])
            }
        }
        return true
    }

    private func readOnce(_ reader: Reader) throws(BenchmarkError) {
        let outcome = unsafe buffer.withUnsafeMutableBytes {
            unsafe StreamSocket.read(reader.socket.number, into: $0)
        }
        switch outcome {
        case .wouldBlock: return
        case .endOfFile, .failed:
            throw BenchmarkError(.failed, "a stream ended after event \(reader.sequence)")
        case .transferred(let count):
            reader.carry.append(contentsOf: buffer[..<count])
            scan(reader)
        }
    }

    private func scan(_ reader: Reader) {
        let bytes = reader.carry
        var start = 0
        unsafe bytes.withUnsafeBytes { bytes in
            while start < bytes.count,
                let found = unsafe memchr(bytes.baseAddress! + start, 10, bytes.count - start)
            {
                let end = unsafe UnsafeRawPointer(found) - bytes.baseAddress!
                unsafe take(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), reader)
                start = end + 1
            }
        }
        reader.carry.removeFirst(start)
    }

    /// Looks at one line. Events carry their ID in each, which is what is checked.
    private func take(_ line: UnsafeRawBufferPointer, _ reader: Reader) {
        guard line.count > 4, !reader.isDone else { return }
        if unsafe line[0] == UInt8(ascii: "e"), unsafe line.elementsEqual("event: gap".utf8) {
            faults += 1
            return
        }
        guard unsafe line[0] == UInt8(ascii: "i"), unsafe line[1] == UInt8(ascii: "d") else {
            return
        }
        var milliseconds: UInt64 = 0
        var sequence: UInt64 = 0
        for index in 4..<line.count {
            let digit = unsafe line[index] &- 48
            if digit <= 9 {
                sequence = sequence &* 10 &+ UInt64(digit)
            } else {
                milliseconds = sequence
                sequence = 0
            }
        }
        if sequence != reader.sequence + 1 { faults += 1 }
        reader.sequence = sequence
        events += 1
        if everyID > 0, sequence % everyID == 0 {
            ids.append(EventID(milliseconds: milliseconds, sequence: sequence))
        }
        if sequence >= last {
            reader.isDone = true
            doneCount += 1
        }
    }
}

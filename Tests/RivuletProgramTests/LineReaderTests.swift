// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Glibc
import PosixIO
import Testing

@testable import rivulet

@Suite("Lines of input")
struct LineReaderTests {
    /// The lines of `input` as text, written in pieces of `piece` bytes by another thread.
    func lines(_ input: [UInt8], limit: Int, piece: Int = .max) throws -> [String] {
        let pair = try Pair()
        let number = pair.writer.number
        let writer = NamedThread("writer") {
            var start = 0
            while start < input.count {
                let end = min(input.count, start + min(piece, input.count))
                StandardStream.write(Array(input[start..<end]), to: number)
                start = end
            }
            shutdown(number, CInt(SHUT_WR))
        }
        var reader = LineReader(pair.reader.number, lineBytesMax: limit)
        var found: [String] = []
        reading: while true {
            switch try reader.next() {
            case .text(let range):
                let bytes = reader.bytes(of: range)
                found.append("\(reader.lineNumber):" + bytes.text(in: 0..<bytes.count))
            case .tooLong(let bytes): found.append("\(reader.lineNumber):<\(bytes)>")
            case .end, .stopped: break reading
            }
        }
        writer.join()
        _ = consume pair
        return found
    }

    @Test("lines end at LF, at CR LF and at the end of the input", arguments: [1, 2, 3, 1_000])
    func endings(piece: Int) throws {
        let input = Array("a\nbb\r\n\nccc".utf8)
        #expect(try lines(input, limit: 10, piece: piece) == ["1:a", "2:bb", "3:", "4:ccc"])
        #expect(try lines(Array("a\n".utf8), limit: 10, piece: piece) == ["1:a"])
        #expect(try lines([], limit: 10, piece: piece) == [])
    }

    @Test("a line at the limit is taken, one byte more is not", arguments: [1, 7, 1_000])
    func limit(piece: Int) throws {
        let input = Array("12345\n123456\r\n12345\r\n123456".utf8)
        let found = try lines(input, limit: 5, piece: piece)
        #expect(found == ["1:12345", "2:<6>", "3:12345", "4:<6>"])
    }

    @Test("a line far past the limit is skipped, measured, and the next one is found")
    func farTooLong() throws {
        let input = [UInt8](repeating: 0x78, count: 5_000_000) + Array("\nnext\n".utf8)
        #expect(try lines(input, limit: 1_000) == ["1:<5000000>", "2:next"])
    }

    @Test("lines longer than the first buffer arrive whole")
    func growth() throws {
        let long = String(repeating: "y", count: 300_000)
        let found = try lines(Array("a\n\(long)\nb\n".utf8), limit: 300_000)
        #expect(found == ["1:a", "2:\(long)", "3:b"])
    }

    @Test("what cannot be read is an error and no end")
    func unreadable() throws {
        let directory = try OwnedDescriptor.open("/", flags: O_RDONLY)
        var reader = LineReader(directory.number, lineBytesMax: 10)
        do {
            _ = try reader.next()
            Issue.record("a directory has lines")
        } catch { #expect(error == Errno(EISDIR)) }
        _ = consume directory
    }
}

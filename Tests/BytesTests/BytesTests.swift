// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@Suite("Bytes")
struct BytesTests {
    @Test(
        "a number survives LEB128",
        arguments: [0, 1, 127, 128, 300, UInt64(UInt32.max), UInt64.max]
    )
    func varintRoundTrip(value: UInt64) throws {
        var writer = ByteWriter()
        writer.appendVarint(value)
        writer.appendSignedVarint(Int64(bitPattern: value))
        let bytes = writer.bytes
        var reader = ByteReader(bytes.span)
        let unsigned = try reader.readVarint()
        #expect(unsigned == value)
        let signed = try reader.readSignedVarint()
        #expect(signed == Int64(bitPattern: value))
        let isAtEnd = reader.isAtEnd
        #expect(isAtEnd)
    }

    @Test("a number of more than 64 bits is refused")
    func overlongVarint() {
        let bytes = [UInt8](repeating: 0xff, count: 10) + [0x7f]
        var reader = ByteReader(bytes.span)
        do throws(ByteReaderError) {
            _ = try reader.readVarint()
            Issue.record("read a number out of 77 bits")
        } catch {
            #expect(error == .numberTooLarge(offset: 10))
        }
    }

    @Test("a length that reaches past the end is refused")
    func truncatedLength() {
        let bytes: [UInt8] = [5, 1, 2]
        var reader = ByteReader(bytes.span)
        do throws(ByteReaderError) {
            _ = try reader.readLengthPrefixedRange()
            Issue.record("read past the end")
        } catch {
            #expect(error == .truncated(offset: 1))
        }
    }

    @Test("decimal digits are read exactly, and nothing else is")
    func decimal() {
        func read(_ text: String) -> UInt64? {
            let bytes = Array(text.utf8)
            return bytes.span.decimal(in: 0..<bytes.count)
        }
        #expect(read("0") == 0)
        #expect(read("18446744073709551615") == UInt64.max)
        #expect(read("18446744073709551616") == nil)
        #expect(read("") == nil)
        #expect(read("-1") == nil)
        #expect(read("1 ") == nil)
        var writer = ByteWriter()
        writer.appendDecimal(1_048_576)
        writer.append(" ")
        writer.appendDecimal(7)
        #expect(String(decoding: writer.bytes, as: UTF8.self) == "1048576 7")
    }

    @Test("a key of a removed value finds nothing, though its slot is used again")
    func slabGenerations() {
        var slab = Slab<String>()
        let first = slab.insert("a")
        slab.remove(first)
        let second = slab.insert("b")
        #expect(second.index == first.index)
        #expect(slab[first] == nil)
        #expect(slab[second] == "b")
        #expect(Slab<String>.Key(packed: second.packed) == second)
        #expect(slab.remove(first) == nil)
        #expect(slab.count == 1)
    }

    @Test("a ring keeps its order while it grows and wraps")
    func ringQueue() {
        var ring = RingQueue<Int>()
        for number in 0..<10 { ring.append(number) }
        for _ in 0..<8 { ring.popFirst() }
        for number in 10..<60 { ring.append(number) }
        #expect(ring.count == 52)
        #expect((0..<52).map { ring[$0] } == Array(8..<60))
        #expect(ring.first == 8)
        #expect(ring.last == 59)
    }

    @Test("shared bytes keep what was put in")
    func sharedBytes() {
        let shared = SharedBytes([1, 2, 3, 4])
        #expect(shared.copy(1..<3) == [2, 3])
        #expect(shared.span[3] == 4)
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@testable import History

@Suite("Batch codec")
struct BatchCodecTests {
    private func randomEvents(_ random: inout SplitMix, count: Int, from base: Int64)
        -> [HistoryEvent]
    {
        func blob(_ most: Int, _ random: inout SplitMix) -> [UInt8] {
            (0..<Int.random(in: 0...most, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
        }
        var offset = base
        return (0..<count).map { index in
            offset +=
                index == 0 && Bool.random(using: &random) ? 0 : .random(in: 1...300, using: &random)
            let headers = (0..<Int.random(in: 0...3, using: &random)).map { _ in
                (name: blob(10, &random), value: blob(200, &random))
            }
            return HistoryEvent(
                offset: offset,
                timestamp: [-1, 0, 1_763_683_200_123, .min, .max].randomElement(using: &random)!,
                key: Bool.random(using: &random) ? blob(20, &random) : nil, headers: headers,
                value: blob(400, &random))
        }
    }

    private func encoded(_ events: [HistoryEvent], base: Int64) -> [UInt8] {
        var encoding = BatchEncoding(base: base)
        for event in events { encoding.append(event) }
        #expect(encoding.count == events.count)
        return encoding.writer.bytes
    }

    @Test("what was written is read back", arguments: 0..<50 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        let base = Int64.random(in: 0...(1 << 52), using: &random)
        let events = randomEvents(&random, count: .random(in: 0...20, using: &random), from: base)
        let bytes = encoded(events, base: base)
        #expect(try BatchLayout.events(bytes, base: base, count: events.count) == events)
    }

    @Test("a layout that is used again holds nothing of before")
    func reuse() throws {
        var random = SplitMix(seed: 9)
        var layout = BatchLayout()
        for count in [20, 3, 0, 7] {
            let events = randomEvents(&random, count: count, from: 100)
            let bytes = encoded(events, base: 100)
            try layout.read(bytes.span, base: 100, count: count)
            #expect(layout.offsets == events.map(\.offset))
            #expect(layout.values.count == count)
            for row in 0..<count {
                let headers = layout.headers(ofRow: row, in: bytes.span)
                #expect(headers.map(\.name) == events[row].headers.map(\.name))
                #expect(headers.map(\.value) == events[row].headers.map(\.value))
            }
        }
    }

    @Test("bytes that end too early are refused, wherever they end")
    func truncated() {
        var random = SplitMix(seed: 4)
        let events = randomEvents(&random, count: 6, from: 10)
        let bytes = encoded(events, base: 10)
        for length in 0..<bytes.count {
            var layout = BatchLayout()
            let part = Array(bytes.prefix(length))
            #expect(throws: BatchCodecError.self, "\(length) of \(bytes.count) bytes") {
                try layout.read(part.span, base: 10, count: 6)
            }
        }
    }

    /// Goal: no bytes crash the reader, and whatever it accepts lies inside them. Method: bytes
    /// changed, removed, added and repeated at random places of valid batches.
    @Test("mutated bytes are read or refused", arguments: 0..<50 as Range<UInt64>)
    func mutated(seed: UInt64) {
        var random = SplitMix(seed: seed)
        let original = encoded(randomEvents(&random, count: 5, from: 0), base: 0)
        var layout = BatchLayout()
        for _ in 0..<100 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(255, at: place)
                default: bytes.insert(contentsOf: bytes[place...].prefix(9), at: place)
                }
            }
            let base = [0, Int64.max, Int64.min].randomElement(using: &random)!
            let count = [0, 5, 6, Int.max].randomElement(using: &random)!
            do throws(BatchCodecError) {
                try layout.read(bytes.span, base: base, count: count)
            } catch { continue }
            #expect(layout.values.count == count)
            for row in 0..<count {
                #expect(layout.values[row].upperBound <= bytes.count)
                #expect((layout.keys[row] ?? 0..<0).upperBound <= bytes.count)
                for header in layout.headers(ofRow: row, in: bytes.span) {
                    #expect(header.value.count <= bytes.count)
                }
            }
        }
    }

    @Test("counts that no bytes could hold are refused before anything is set aside for them")
    func hugeCounts() {
        var writer = ByteWriter()
        func refuse(_ build: (inout ByteWriter) -> Void, _ what: Comment) {
            writer.removeAll()
            writer.append(BatchEncoding.version)
            build(&writer)
            let bytes = writer.bytes
            var layout = BatchLayout()
            #expect(throws: BatchCodecError.self, what) {
                try layout.read(bytes.span, base: 0, count: 1)
            }
        }
        for huge in [UInt64.max, 1 << 62, 1 << 40] {
            refuse(
                {
                    $0.append([0, 0, 2])
                    $0.appendVarint(huge)
                    $0.append([1, 1, 1, 1])
                }, "\(huge) headers")
            refuse(
                {
                    $0.append([0, 0, 0])
                    $0.appendVarint(huge)
                    $0.append([1, 1])
                }, "a value of \(huge) bytes")
            refuse(
                {
                    $0.append([0, 0, 1])
                    $0.appendVarint(huge)
                }, "a key of \(huge) bytes")
        }
        refuse({ $0.append([UInt8](repeating: 255, count: 12)) }, "a number of more than 64 bits")
    }

    @Test("more events than the count says are refused when the first of them is met")
    func moreThanSaid() {
        // Each event of four bytes takes sixty in a layout: reading on to the end would cost
        // fifteen times the size of the entry.
        let bytes = [BatchEncoding.version] + [UInt8](repeating: 0, count: 4 << 20)
        var layout = BatchLayout()
        #expect(throws: BatchCodecError.self) {
            try layout.read(bytes.span, base: 0, count: 10)
        }
        #expect(layout.values.count <= 10)
    }

    @Test("an unknown version names itself")
    func version() throws {
        let error = try #require(throws: BatchCodecError.self) {
            try BatchLayout.events([2, 0, 0, 0, 0], base: 0, count: 1)
        }
        #expect(error.description.contains("version 2"))
        #expect(throws: BatchCodecError.self) {
            try BatchLayout.events([], base: 0, count: 0)
        }
    }
}

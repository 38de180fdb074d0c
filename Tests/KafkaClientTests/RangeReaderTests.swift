// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import PosixIO
import Testing

@Suite("Range reader")
struct RangeReaderTests {
    private static let patience: Duration = .seconds(30)

    private struct Read: Equatable {
        var values: [String] = []
        var others: [String] = []
    }

    private func read(
        _ reader: KafkaRangeReader, _ partition: TopicPartition, _ offsets: Range<Int64>
    ) -> Read {
        var read = Read()
        for offset in offsets {
            let found = reader.read(partition, at: offset, until: .now + Self.patience) { record in
                read.values.append(record.value?.text ?? "-")
            }
            if case .record = found { continue }
            read.others.append("\(offset): \(found)")
        }
        return read
    }

    @Test("stretches of many partitions come in the order they are asked for, and go on")
    func stretches() throws {
        let scene = try Scene(partitions: 6)
        for partition in 0..<6 { try scene.write(0..<40, to: Int32(partition)) }
        let reader = try KafkaRangeReader(
            settings: KafkaSettings(bootstrapServers: scene.cluster.bootstrapServers), log: .silent)
        defer { reader.close(within: .seconds(10)) }
        try reader.place((0..<6).map { (scene.at($0), 5) })
        // Single records of all partitions in turn.
        for offset: Int64 in 5..<15 {
            for partition: Int32 in 0..<6 {
                let got = read(reader, scene.at(partition), offset..<(offset + 1))
                #expect(got == Read(values: texts(Int(offset)..<(Int(offset) + 1))))
            }
        }
        // On from there, with some left out.
        try reader.place((0..<6).map { (scene.at($0), 20) })
        for partition: Int32 in 0..<6 {
            #expect(read(reader, scene.at(partition), 20..<30) == Read(values: texts(20..<30)))
        }
        // Back, in one of them, while another goes on.
        try reader.place([(scene.at(2), 0), (scene.at(3), 30)])
        #expect(read(reader, scene.at(3), 30..<35) == Read(values: texts(30..<35)))
        #expect(read(reader, scene.at(2), 0..<10) == Read(values: texts(0..<10)))
        // After a rest as before.
        reader.rest()
        try reader.place([(scene.at(1), 39)])
        #expect(read(reader, scene.at(1), 39..<40) == Read(values: texts(39..<40)))
    }

    @Test("an offset beyond the end is late, and what is written meanwhile is there")
    func end() throws {
        let scene = try Scene(partitions: 1)
        try scene.write(0..<3)
        let reader = try KafkaRangeReader(
            settings: KafkaSettings(bootstrapServers: scene.cluster.bootstrapServers), log: .silent)
        defer { reader.close(within: .seconds(10)) }
        try reader.place([(scene.at(0), 2)])
        #expect(read(reader, scene.at(0), 2..<3) == Read(values: texts(2..<3)))
        guard
            case .late = reader.read(scene.at(0), at: 3, until: .now + .milliseconds(200), { _ in })
        else {
            Issue.record("something beyond the end")
            return
        }
        try scene.write(3..<5)
        #expect(read(reader, scene.at(0), 3..<5) == Read(values: texts(3..<5)))
        // What lies before is not there any more for who has gone on.
        guard case .nothing = reader.read(scene.at(0), at: 1, until: .now + .seconds(1), { _ in })
        else {
            Issue.record("a reader went back by itself")
            return
        }
    }

    @Test("an offset that the partition does not hold is out of range, and so is no partition")
    func range() throws {
        let scene = try Scene(partitions: 2)
        try scene.write(0..<3)
        let reader = try KafkaRangeReader(
            settings: KafkaSettings(bootstrapServers: scene.cluster.bootstrapServers), log: .silent)
        defer { reader.close(within: .seconds(10)) }
        try reader.place([(scene.at(0), 100)])
        guard
            case .outOfRange = reader.read(
                scene.at(0), at: 100, until: .now + Self.patience, { _ in })
        else {
            Issue.record("offset 100 of three")
            return
        }
        #expect(
            try reader.watermarks(of: scene.at(0), within: .seconds(20))
                == KafkaWatermarks(low: 0, high: 3))
        #expect(try reader.watermarks(of: scene.at(7), within: .seconds(20)) == nil)
        try reader.place([(scene.at(0), 0)])
        #expect(read(reader, scene.at(0), 0..<3) == Read(values: texts(0..<3)))
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import EventStreamWire
import Testing

@testable import History

private func id(_ sequence: UInt64, ms: UInt64 = 1000) -> EventID {
    EventID(milliseconds: ms, sequence: sequence)
}

/// The streams of history as Redis would hold them, without Redis.
private struct Streams {
    struct Batch: Equatable {
        let topic: Int
        let lastID: EventID
        let count: Int
        var sequences: ClosedRange<UInt64> {
            (lastID.sequence - UInt64(count) + 1)...lastID.sequence
        }
    }

    private(set) var all: [Batch] = []
    private(set) var topics: [Int] = []
    /// Topics in the order in which they were announced; not every one has to be.
    private(set) var news: [Int] = []
    private var milliseconds: UInt64 = 1000
    private var sequence: UInt64 = 0

    var tip: EventID { EventID(milliseconds: milliseconds, sequence: sequence) }

    mutating func append(topic: Int, count: Int, later: UInt64 = 0, isAnnounced: Bool = true) {
        milliseconds += later
        sequence += UInt64(count)
        all.append(Batch(topic: topic, lastID: tip, count: count))
        guard !topics.contains(topic) else { return }
        topics.append(topic)
        if isAnnounced { news.append(topic) }
    }

    mutating func remove(where isGone: (Batch) -> Bool) { all.removeAll(where: isGone) }

    /// Redis goes on from before: what is newer than `sequence` is gone, and its clock moves on.
    mutating func fallBack(to sequence: UInt64) {
        all.removeAll { $0.lastID.sequence > sequence }
        self.sequence = all.last?.lastID.sequence ?? 0
        milliseconds += 1
    }

    func read(topic: Int, after position: EventID, atMost limit: Int) -> [Batch] {
        // `all` is in the order of the IDs, and what is read is mostly near its end.
        let start = (all.lastIndex { $0.lastID <= position } ?? -1) + 1
        var found: [Batch] = []
        for batch in all[start...] where batch.topic == topic {
            if found.count == limit { break }
            found.append(batch)
        }
        return found
    }
}

/// Reads ``Streams`` as the tail does, with a bound on the entries of one read.
private struct Reader {
    var merge: TailMerge<Streams.Batch>
    private var positions: [Int: EventID] = [:]
    private var newsRead = 0
    /// A reader that says it has read the topics and has not. It must be found out.
    var isBroken = false

    var given: [Streams.Batch] = []
    var gaps: [(from: EventID, to: EventID)] = []
    var regressions: [(from: EventID, to: EventID)] = []
    var topicReads = 0

    init(_ streams: Streams) {
        merge = TailMerge(after: streams.tip)
        for topic in streams.topics { positions[topic] = streams.tip }
        newsRead = streams.news.count
    }

    mutating func step(_ streams: Streams, atMost limit: Int) {
        if merge.wantsTopics {
            topicReads += 1
            merge.topicsWereRead()
            for topic in streams.topics where positions[topic] == nil && !isBroken {
                positions[topic] = merge.lastID
            }
            return
        }
        var entries: [TailMerge<Streams.Batch>.Entry] = []
        for (topic, position) in positions {
            let found = streams.read(topic: topic, after: position, atMost: limit)
            for batch in found {
                positions[topic] = batch.lastID
                entries.append(.init(lastID: batch.lastID, count: batch.count, payload: batch))
            }
        }
        for topic in streams.news.dropFirst(newsRead) {
            if positions[topic] == nil { positions[topic] = merge.lastID }
        }
        newsRead = streams.news.count
        for output in merge.take(entries) {
            switch output {
            case .batch(let entry): given.append(entry.payload)
            case .gap(let from, let to): gaps.append((from, to))
            case .regressed(let from, let to): regressions.append((from, to))
            case .passed: break
            }
        }
    }

    mutating func settle(_ streams: Streams, atMost limit: Int) {
        var idleSteps = 0
        while idleSteps < 6 {
            let before = merge.lastID
            step(streams, atMost: limit)
            idleSteps = merge.lastID == before ? idleSteps + 1 : 0
        }
    }
}

@Suite("Merging the streams of the tail")
struct TailMergeTests {
    private func entry(_ last: UInt64, _ count: Int, ms: UInt64 = 1000)
        -> TailMerge<UInt64>.Entry
    {
        .init(lastID: id(last, ms: ms), count: count, payload: last)
    }

    private func texts(_ outputs: [TailMerge<UInt64>.Output]) -> [String] {
        outputs.map { output in
            switch output {
            case .batch(let entry): "\(entry.lastID.sequence)"
            case .gap(let from, let to): "gap \(from)..\(to)"
            case .regressed(let from, let to): "regressed \(from)..\(to)"
            case .passed(let end): "passed \(end.from)..\(end.to)"
            }
        }
    }

    @Test("batches of one read come out by their IDs")
    func order() {
        var merge = TailMerge<UInt64>(after: id(10))
        let outputs = merge.take([entry(15, 1), entry(12, 2), entry(14, 2)])
        #expect(texts(outputs) == ["12", "14", "15"])
        #expect(merge.lastID == id(15))
        #expect(!merge.hasHole)
    }

    @Test("what comes twice is given out once")
    func duplicates() {
        var merge = TailMerge<UInt64>(after: id(0))
        #expect(texts(merge.take([entry(1, 1), entry(1, 1)])) == ["1"])
        #expect(texts(merge.take([entry(1, 1), entry(3, 1)])).isEmpty)
        #expect(texts(merge.take([entry(3, 1), entry(2, 1)])) == ["2", "3"])
    }

    @Test("a hole holds back what follows it until it is filled")
    func hole() {
        var merge = TailMerge<UInt64>(after: id(0))
        #expect(texts(merge.take([entry(5, 2)])).isEmpty)
        #expect(merge.hasHole)
        #expect(merge.wantsTopics)
        #expect(texts(merge.take([entry(3, 2)])).isEmpty)
        #expect(texts(merge.take([entry(1, 1)])) == ["1", "3", "5"])
        #expect(!merge.hasHole)
    }

    @Test("a hole is a gap once the topics were read anew and the next read does not fill it")
    func gap() {
        var merge = TailMerge<UInt64>(after: id(2))
        #expect(texts(merge.take([entry(9, 2, ms: 1007)])).isEmpty)
        #expect(merge.wantsTopics)
        merge.topicsWereRead()
        #expect(!merge.wantsTopics)
        let outputs = merge.take([])
        #expect(texts(outputs) == ["gap 1000-2..1007-7", "9"])
        #expect(texts(merge.take([])).isEmpty)
        #expect(texts(merge.take([entry(10, 1, ms: 1007)])) == ["10"])
    }

    @Test("topics that were not read anew never make a gap, however often the streams were")
    func staleTopics() {
        var merge = TailMerge<UInt64>(after: id(0))
        for _ in 0..<10 {
            #expect(texts(merge.take([entry(5, 1)])).isEmpty)
            #expect(merge.wantsTopics)
        }
    }

    @Test("a second hole is not judged by what was read for the first")
    func secondHole() {
        var merge = TailMerge<UInt64>(after: id(0))
        _ = merge.take([entry(2, 1)])
        merge.topicsWereRead()
        // The first hole is filled by the read that shows the second.
        let outputs = merge.take([entry(1, 1), entry(4, 1)])
        #expect(texts(outputs) == ["1", "2"])
        #expect(merge.hasHole)
        #expect(merge.wantsTopics)
        merge.topicsWereRead()
        #expect(texts(merge.take([entry(3, 1)])) == ["3", "4"])
    }

    @Test("numbers that fall back are told, and what follows is given out under its new IDs")
    func regression() {
        var merge = TailMerge<UInt64>(after: id(100))
        _ = merge.take([entry(92, 2, ms: 2000), entry(101, 9, ms: 2001)])
        merge.topicsWereRead()
        let outputs = merge.take([])
        #expect(texts(outputs) == ["regressed 1000-100..2000-90", "92", "101"])
    }

    /// Goal: whatever the reads return and whenever topics are born, every event is given out once
    /// and in order, without a false gap. Method: random appends to streams that are read a few
    /// entries at a time; some topics are born without being announced.
    @Test("any pattern of reads gives the exact order", arguments: 0..<100 as Range<UInt64>)
    func property(seed: UInt64) {
        let (streams, reader) = run(seed: seed)
        #expect(reader.given == streams.all, "seed \(seed)")
        #expect(reader.gaps.isEmpty)
        #expect(reader.regressions.isEmpty)
    }

    @Test("the check above notices a reader that takes a part of the topics for all of them")
    func canary() {
        var caught = 0
        for seed: UInt64 in 0..<60 {
            let (streams, reader) = run(seed: seed, isBroken: true)
            if reader.given != streams.all {
                caught += 1
                #expect(!reader.gaps.isEmpty)
            }
        }
        #expect(caught > 20)
    }

    private func run(seed: UInt64, isBroken: Bool = false) -> (Streams, Reader) {
        var random = SplitMix(seed: seed)
        var streams = Streams()
        var reader = Reader(streams)
        reader.isBroken = isBroken
        let topicsMax = Int.random(in: 1...5, using: &random)
        for _ in 0..<200 {
            // One topic gets most, so that its reads are cut off while others are at their ends.
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let any = Int.random(in: 0..<topicsMax, using: &random)
                streams.append(
                    topic: Int.random(in: 0..<3, using: &random) > 0 ? 0 : any,
                    count: Int.random(in: 1...5, using: &random),
                    later: UInt64.random(in: 0...1, using: &random),
                    isAnnounced: Int.random(in: 0..<3, using: &random) > 0)
            }
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                reader.step(streams, atMost: Int.random(in: 1...3, using: &random))
            }
        }
        // A topic that nobody announced is missed only when something comes after it.
        streams.append(topic: topicsMax, count: 1)
        reader.settle(streams, atMost: 3)
        return (streams, reader)
    }

    /// Goal: what was trimmed before it was read is told as gaps that cover it exactly, each once.
    @Test("true holes are gaps, each told once", arguments: 0..<60 as Range<UInt64>)
    func trueHoles(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var streams = Streams()
        var reader = Reader(streams)
        for round in 0..<10 {
            for _ in 0..<20 {
                streams.append(
                    topic: Int.random(in: 0..<3, using: &random),
                    count: Int.random(in: 1...3, using: &random), later: 1)
            }
            let seen = reader.merge.lastID
            let victim = Int.random(in: 0..<3, using: &random)
            streams.remove { batch in
                batch.lastID > seen && batch.topic == victim
                    && Int.random(in: 0..<2, using: &random) == 0
            }
            if round % 2 == 0 { reader.settle(streams, atMost: 2) }
        }
        streams.append(topic: 0, count: 1)
        reader.settle(streams, atMost: 4)
        let given = Set(reader.given.flatMap(\.sequences))
        var missing: Set<UInt64> = []
        for gap in reader.gaps {
            #expect(gap.from < gap.to)
            for sequence in (gap.from.sequence + 1)...gap.to.sequence {
                #expect(missing.insert(sequence).inserted, "told twice: \(sequence)")
            }
        }
        #expect(given.isDisjoint(with: missing))
        #expect(given.union(missing) == Set(1...streams.tip.sequence), "seed \(seed)")
        #expect(given == Set(streams.all.flatMap(\.sequences)))
        #expect(reader.given == reader.given.sorted { $0.lastID < $1.lastID })
    }

    @Test("a Redis that goes on from before is followed", arguments: 0..<100 as Range<UInt64>)
    func fallBack(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var streams = Streams()
        var reader = Reader(streams)
        for _ in 0..<30 {
            streams.append(topic: .random(in: 0..<3, using: &random), count: 2, later: 1)
        }
        reader.settle(streams, atMost: 4)
        let before = reader.given
        #expect(before == streams.all)
        streams.fallBack(to: UInt64.random(in: 0..<60, using: &random))
        let start = streams.all.count
        for _ in 0..<60 {
            streams.append(topic: .random(in: 0..<3, using: &random), count: 1, later: 1)
            if Bool.random(using: &random) { reader.step(streams, atMost: 2) }
        }
        reader.settle(streams, atMost: 4)
        #expect(reader.given == before + streams.all[start...], "seed \(seed)")
        #expect(reader.regressions.count == 1)
        #expect(reader.gaps.isEmpty)
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import EventStreamWire

/// What a page of replay is of: topics in order, and the cursor it begins after.
struct ReplayQuestion: Hashable, Sendable {
    let topics: [String]
    let cursor: EventID
}

/// The questions that wait for a page, and who asked them.
///
/// View: node. Does no input or output. Those who ask the same share the answer. There are two
/// lanes: pages of the Redis window, and pages of Kafka, which take longer and are fewer at a time;
/// neither waits for the other.
///
/// Each client has one question at a time, so first come, first served is a turn for each client.
/// In Kafka's lane every other turn goes to the oldest cursor instead: the one that is furthest
/// behind catches up with the next, and from there on they read the same pages once.
struct ReplayQueue<Waiter> {
    private struct Entry {
        var waiters: [Waiter]
    }

    private var entries: [ReplayQuestion: Entry] = [:]
    private var window: [ReplayQuestion] = []
    private var kafka: [ReplayQuestion] = []
    /// Pages that somebody is likely to ask for next.
    private var ahead: [ReplayQuestion] = []
    private var turn = 0

    /// What is read ahead at most; each belongs to a client that reads at this moment.
    private static var aheadMax: Int { 16 }

    enum Lane { case window, kafka }

    /// Questions with somebody who waits, also those being answered.
    private(set) var waiting = 0

    /// True where the same question was there, so that its answer is shared.
    mutating func ask(_ question: ReplayQuestion, _ waiter: Waiter, in lane: Lane) -> Bool {
        if let known = entries[question] {
            entries[question]!.waiters.append(waiter)
            guard known.waiters.isEmpty else { return true }
            // It was being read ahead; somebody waits for it now.
            waiting += 1
            if let index = ahead.firstIndex(of: question) {
                ahead.remove(at: index)
                kafka.append(question)
            }
            return true
        }
        entries[question] = Entry(waiters: [waiter])
        waiting += 1
        switch lane {
        case .window: window.append(question)
        case .kafka: kafka.append(question)
        }
        return false
    }

    /// Reads a page before anybody asks for it, when nothing else is to be done.
    mutating func readAhead(_ question: ReplayQuestion) {
        guard entries[question] == nil else { return }
        entries[question] = Entry(waiters: [])
        ahead.append(question)
        if ahead.count > Self.aheadMax { entries[ahead.removeFirst()] = nil }
    }

    func contains(_ question: ReplayQuestion) -> Bool { entries[question] != nil }

    /// Whether there is a question for ``next(in:)``; those read ahead only where `ahead` is true.
    func hasNext(in lane: Lane, ahead isAhead: Bool) -> Bool {
        switch lane {
        case .window: !window.isEmpty
        case .kafka: !kafka.isEmpty || (isAhead && !ahead.isEmpty)
        }
    }

    /// The question to answer next.
    mutating func next(in lane: Lane) -> ReplayQuestion? {
        switch lane {
        case .window: return window.isEmpty ? nil : window.removeFirst()
        case .kafka:
            guard !kafka.isEmpty else { return ahead.isEmpty ? nil : ahead.removeFirst() }
            turn += 1
            guard turn % 2 == 0 else { return kafka.removeFirst() }
            var oldest = 0
            for index in kafka.indices where kafka[index].cursor < kafka[oldest].cursor {
                oldest = index
            }
            return kafka.remove(at: oldest)
        }
    }

    /// Puts a question into Kafka's lane that turned out to belong there.
    mutating func move(_ question: ReplayQuestion) {
        if entries[question]?.waiters.isEmpty == false { kafka.append(question) }
    }

    /// Takes a question out, for good; returns who waits for it.
    mutating func finish(_ question: ReplayQuestion) -> [Waiter] {
        guard let entry = entries.removeValue(forKey: question) else { return [] }
        if !entry.waiters.isEmpty { waiting -= 1 }
        return entry.waiters
    }
}

/// The pages of Kafka that were read last.
///
/// View: node. Bounded by bytes. A page serves every cursor that lies in it.
struct PageCache {
    struct Page {
        let topics: [String]
        let from: EventID
        let through: EventID
        let batches: [EventBatch]
        let gaps: [GapNotice]
        let bytes: Int

        func serves(_ question: ReplayQuestion) -> Bool {
            guard question.cursor >= from, question.cursor < through, topics == question.topics
            else { return false }
            // A notice in the middle of which the cursor lies would tell of what the client has.
            return gaps.allSatisfy { question.cursor <= $0.from || question.cursor >= $0.to }
        }
    }

    private let bytesMax: Int
    /// The one used last at the end.
    private var pages: [Page] = []
    private(set) var bytes = 0

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    mutating func page(for question: ReplayQuestion) -> Page? {
        guard let index = pages.lastIndex(where: { $0.serves(question) }) else { return nil }
        let page = pages.remove(at: index)
        pages.append(page)
        return page
    }

    func has(_ question: ReplayQuestion) -> Bool { pages.contains { $0.serves(question) } }

    mutating func insert(_ page: Page) {
        guard page.bytes <= bytesMax, page.through > page.from else { return }
        pages.append(page)
        bytes += page.bytes
        while bytes > bytesMax { bytes -= pages.removeFirst().bytes }
    }

    mutating func removeAll() {
        pages.removeAll()
        bytes = 0
    }
}

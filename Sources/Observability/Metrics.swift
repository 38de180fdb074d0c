// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Synchronization

/// A number that only grows.
///
/// Threads: any; an increment is one relaxed atomic addition.
package final class Counter: Sendable {
    // Relaxed: each number stands alone; no reader infers other memory from it.
    private let number = Atomic<UInt64>(0)

    package init() {}
    package func add(_ count: UInt64 = 1) { number.wrappingAdd(count, ordering: .relaxed) }
    package func add(_ count: Int) { number.wrappingAdd(UInt64(max(0, count)), ordering: .relaxed) }
    package var value: UInt64 { number.load(ordering: .relaxed) }
}

/// A number that goes up and down.
///
/// Threads: any; each change is one relaxed atomic operation.
package final class Gauge: Sendable {
    private let number = Atomic<Int64>(0)

    package init() {}
    package func set(_ value: Int64) { number.store(value, ordering: .relaxed) }
    package func set(_ value: Int) { number.store(Int64(value), ordering: .relaxed) }
    package func add(_ difference: Int64) { number.wrappingAdd(difference, ordering: .relaxed) }
    package var value: Int64 { number.load(ordering: .relaxed) }
}

/// Counts durations in buckets of doubling width, from 64 microseconds to about 67 seconds.
///
/// Threads: any; a recording is two relaxed atomic additions.
package final class DurationHistogram: Sendable {
    /// The upper bounds of the buckets, in seconds; one bucket more holds what is longer.
    package static let bounds: [Double] = (0..<21).map { 0.000_064 * Double(1 << $0) }

    private let counts: [Counter] = (0...21).map { _ in Counter() }
    private let microseconds = Counter()

    package init() {}

    package func record(_ duration: Duration) {
        let nanoseconds = UInt64(max(0, duration.wholeNanoseconds))
        microseconds.add(nanoseconds / 1000)
        let steps = (nanoseconds + 63_999) / 64_000
        let bucket = steps <= 1 ? 0 : 64 - (steps - 1).leadingZeroBitCount
        counts[min(bucket, 21)].add()
    }

    package var count: UInt64 { counts.reduce(0) { $0 + $1.value } }
    package var sumInSeconds: Double { Double(microseconds.value) / 1e6 }
    package func countInBucket(_ index: Int) -> UInt64 { counts[index].value }
}

/// All metrics of one process, rendered in Prometheus' text format.
///
/// Threads: any. Registering takes a lock and belongs to start-up; counting takes none.
/// Source: the Prometheus text exposition format, version 0.0.4.
package final class MetricsRegistry: Sendable {
    private enum Source: Sendable {
        case counter(Counter)
        case gauge(Gauge)
        case histogram(DurationHistogram)
        case computed(@Sendable () -> Double)
        case computedCount(@Sendable () -> UInt64)
    }

    private struct Series: Sendable {
        let labels: String
        let source: Source
    }

    private struct Family: Sendable {
        let help: String
        let type: String
        var series: [Series] = []
    }

    private let families = Lock<(order: [String], byName: [String: Family])>(
        (order: [], byName: [:]))

    package init() {}

    /// Registers a counter. The same name with the same labels gives the same counter.
    package func counter(_ name: String, _ help: String, _ labels: [(String, String)] = [])
        -> Counter
    {
        let text = Self.render(labels)
        return families.withLock { families in
            if let series = families.byName[name]?.series.first(where: { $0.labels == text }),
                case .counter(let counter) = series.source
            {
                return counter
            }
            let counter = Counter()
            Self.add(
                name, help, "counter", Series(labels: text, source: .counter(counter)), &families)
            return counter
        }
    }

    /// Registers a gauge. The same name with the same labels gives the same gauge.
    package func gauge(_ name: String, _ help: String, _ labels: [(String, String)] = []) -> Gauge {
        let text = Self.render(labels)
        return families.withLock { families in
            if let series = families.byName[name]?.series.first(where: { $0.labels == text }),
                case .gauge(let gauge) = series.source
            {
                return gauge
            }
            let gauge = Gauge()
            Self.add(name, help, "gauge", Series(labels: text, source: .gauge(gauge)), &families)
            return gauge
        }
    }

    /// Registers a gauge whose value is asked for when the metrics are read.
    package func gauge(
        _ name: String, _ help: String, _ labels: [(String, String)] = [],
        reading: @escaping @Sendable () -> Double
    ) {
        let series = Series(labels: Self.render(labels), source: .computed(reading))
        families.withLock { Self.add(name, help, "gauge", series, &$0) }
    }

    /// Registers a counter that somebody else keeps and that is asked for when metrics are read.
    package func counter(
        _ name: String, _ help: String, _ labels: [(String, String)] = [],
        reading: @escaping @Sendable () -> UInt64
    ) {
        let series = Series(labels: Self.render(labels), source: .computedCount(reading))
        families.withLock { Self.add(name, help, "counter", series, &$0) }
    }

    /// Registers a histogram of durations. `name` ends with `_seconds`.
    package func histogram(_ name: String, _ help: String, _ labels: [(String, String)] = [])
        -> DurationHistogram
    {
        let histogram = DurationHistogram()
        let series = Series(labels: Self.render(labels), source: .histogram(histogram))
        families.withLock { Self.add(name, help, "histogram", series, &$0) }
        return histogram
    }

    /// Everything, as `GET /metrics` shows it.
    package func render() -> String {
        let (order, byName) = families.withLock { $0 }
        var text = ""
        for name in order {
            guard let family = byName[name] else { continue }
            text += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.type)\n"
            for series in family.series { text += Self.lines(of: series, named: name) }
        }
        return text
    }

    private static func lines(of series: Series, named name: String) -> String {
        let braces = series.labels.isEmpty ? "" : "{\(series.labels)}"
        switch series.source {
        case .counter(let counter): return "\(name)\(braces) \(counter.value)\n"
        case .gauge(let gauge): return "\(name)\(braces) \(gauge.value)\n"
        case .computed(let read): return "\(name)\(braces) \(read())\n"
        case .computedCount(let read): return "\(name)\(braces) \(read())\n"
        case .histogram(let histogram):
            let comma = series.labels.isEmpty ? "" : "\(series.labels),"
            var text = ""
            var sum: UInt64 = 0
            for (index, bound) in DurationHistogram.bounds.enumerated() {
                sum += histogram.countInBucket(index)
                text += "\(name)_bucket{\(comma)le=\"\(bound)\"} \(sum)\n"
            }
            sum += histogram.countInBucket(DurationHistogram.bounds.count)
            text += "\(name)_bucket{\(comma)le=\"+Inf\"} \(sum)\n"
            text += "\(name)_sum\(braces) \(histogram.sumInSeconds)\n"
            return text + "\(name)_count\(braces) \(sum)\n"
        }
    }

    private static func add(
        _ name: String, _ help: String, _ type: String, _ series: Series,
        _ families: inout (order: [String], byName: [String: Family])
    ) {
        if families.byName[name] == nil { families.order.append(name) }
        families.byName[name, default: Family(help: help, type: type)].series.append(series)
    }

    /// Label values escape what the format asks for: backslash, quote and line feed.
    private static func render(_ labels: [(String, String)]) -> String {
        labels.map { name, value in
            var escaped = ""
            for character in value.unicodeScalars {
                switch character {
                case "\\": escaped += "\\\\"
                case "\"": escaped += "\\\""
                case "\n": escaped += "\\n"
                default: escaped.unicodeScalars.append(character)
                }
            }
            return "\(name)=\"\(escaped)\""
        }.joined(separator: ",")
    }
}

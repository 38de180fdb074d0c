// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CRdKafka
import Observability
import PosixIO

/// Passes librdkafka's log lines on to ours, and keeps a broker that is away from flooding it.
///
/// The lines come as events, on the thread that serves the client. librdkafka's log callback would
/// run on all of librdkafka's own threads, also on those of a client that was given up.
///
/// Threads: any.
final class LogRelay: Sendable {
    /// Lines of one facility within ``window`` before the rest are only counted. A facility is
    /// librdkafka's word for a kind of line, such as `FAIL` or `REBALANCE`.
    static let linesPerWindow = 3
    static let window: Duration = .seconds(10)
    /// librdkafka has about a hundred facilities; more than this many share one allowance.
    static let facilitiesMax = 256

    private struct Allowance {
        var windowEnd: MonotonicTime
        var written = 0
        var suppressed = 0
    }

    private let log: Logger
    private let allowances = Lock<[String: Allowance]>([:])

    init(_ log: Logger) { self.log = log }

    /// Takes one line. `level` is syslog's: 0 is the most severe.
    func line(level: Int32, facility: String, text: String) {
        // Said of brokers before 0.11 and of the development broker, at each metadata request, and
        // of no use to anybody.
        guard facility != "AUTOCREATE", let suppressed = admit(facility, at: .now) else { return }
        let fields = LogField("facility", facility)
        let more = LogField("suppressed", suppressed)
        switch level {
        // librdkafka calls a lost connection an error; for us it is something we go on with.
        case ...2: log.error(text, fields, more)
        case 3...4: log.warning(text, fields, more)
        case 5: log.notice(text, fields, more)
        case 6: log.info(text, fields, more)
        default: log.debug(text, fields, more)
        }
    }

    /// How many lines were left out before this one, or `nil` where this one is left out too.
    func admit(_ facility: String, at now: MonotonicTime) -> Int? {
        allowances.withLock { allowances in
            let isKnown = allowances[facility] != nil
            let key = isKnown || allowances.count < Self.facilitiesMax ? facility : ""
            var allowance = allowances[key] ?? Allowance(windowEnd: now + Self.window)
            defer { allowances[key] = allowance }
            if allowance.windowEnd <= now {
                let suppressed = allowance.suppressed
                allowance = Allowance(windowEnd: now + Self.window, written: 1)
                return suppressed
            }
            guard allowance.written < Self.linesPerWindow else {
                allowance.suppressed += 1
                return nil
            }
            allowance.written += 1
            return 0
        }
    }
}

extension LogRelay {
    /// Takes one log event.
    func take(_ event: OpaquePointer) {
        var facility: UnsafePointer<CChar>?
        var text: UnsafePointer<CChar>?
        var level: Int32 = 0
        guard unsafe rd_kafka_event_log(event, &facility, &text, &level) == 0,
            let facility = unsafe facility, let text = unsafe text
        else { return }
        unsafe line(
            level: level, facility: String(cString: facility), text: String(cString: text))
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import KafkaClient
import PosixIO

/// What a node knows of Kafka: each broker, and whether what it sends is confirmed.
///
/// View: node. Threads: any. librdkafka reconnects by itself; this is what it is judged by, and who
/// asks whether it is worth sending.
final class KafkaWatch: Sendable {
    let dependency: Dependency
    private let known = Lock<[KafkaBroker]>([])
    /// Since when something that was sent is not confirmed.
    private let waiting = Lock<MonotonicTime?>(nil)

    /// A record that is not confirmed after this long says that nobody answers.
    static let silentAfter: Duration = .seconds(3)
    /// How long a refusal by an access list is shown; librdkafka tells it again every few seconds.
    private static let refusalHolds: Duration = .seconds(15)
    /// How long a broker's absence is shown; it is told again every second.
    private static let absenceHolds: Duration = .seconds(3)

    init() {
        var settings = CircuitBreaker.Settings()
        // The brokers are looked at once a second: twice away is away.
        settings.failuresToOpen = 2
        dependency = Dependency("kafka", breaker: settings)
    }

    /// By number; empty before the first look at them.
    var brokers: [KafkaBroker] { known.withLock { $0 } }

    /// How the brokers are, once a second.
    func take(_ brokers: [KafkaBroker], at now: MonotonicTime = .now) {
        known.withLock { $0 = brokers }
        guard !brokers.isEmpty else { return }
        let away = brokers.filter { !$0.isUp }
        let names = away.map { "\($0) is \($0.state)" }.joined(separator: ", ")
        guard away.count < brokers.count else {
            return dependency.failed(
                Trouble("unreachable", "no broker can be reached: \(names)"), at: now)
        }
        if let since = waiting.withLock({ $0 }), now - since > Self.silentAfter {
            let span = (now - since).wholeMilliseconds / 1000
            return dependency.failed(
                Trouble(
                    "silent", "brokers take connections and have confirmed nothing for \(span) s"),
                at: now)
        }
        dependency.succeeded(at: now)
        guard !away.isEmpty else { return }
        dependency.refused(
            Trouble("partial", "\(away.count) of \(brokers.count) brokers are away: \(names)"),
            for: Self.absenceHolds, at: now)
    }

    /// A record was handed over for sending.
    func sent(at now: MonotonicTime = .now) { waiting.withLock { $0 = $0 ?? now } }

    /// A record was confirmed, or given up. With others still out the next look begins anew.
    func answered(_ isDelivered: Bool, at now: MonotonicTime = .now) {
        waiting.withLock { $0 = nil }
        if isDelivered { dependency.succeeded(at: now) }
    }

    /// What a consumer was told. That it reaches no broker says little: one that has nothing to
    /// read is let go by all of them.
    func consumerFailed(_ error: KafkaError) {
        switch error.code {
        case .authenticationFailed:
            dependency.refused(
                Trouble(
                    "unauthenticated",
                    "the brokers do not know us; check kafka.properties: \(error.detail)"),
                for: Self.refusalHolds)
        case .authorizationFailed:
            dependency.refused(
                Trouble(
                    "unauthorized",
                    "the brokers' access list forbids what is needed: \(error.detail)"),
                for: Self.refusalHolds)
        default: break
        }
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
package import PosixIO

/// How one component fares.
package struct ComponentStatus: Sendable, Equatable {
    package let name: String
    package let phase: Supervision.Phase
    package let restarts: UInt64
    /// Why it failed last.
    package let reason: String?
    /// When it was told to start last; `nil` where it never was.
    package let started: MonotonicTime?

    package init(
        name: String, phase: Supervision.Phase, restarts: UInt64, reason: String?,
        started: MonotonicTime? = nil
    ) {
        self.started = started
        self.name = name
        self.phase = phase
        self.restarts = restarts
        self.reason = reason
    }
}

/// One component of a node under supervision.
///
/// View: node. Threads: any. Its owner tells what becomes of it and starts it again when told to,
/// on a loop of its own: nothing here calls back.
package final class Component: Sendable {
    private struct Values {
        var supervision: Supervision
        var started: MonotonicTime?
        var random: any RandomNumberGenerator & Sendable
    }

    package let name: String
    private let values: Lock<Values>
    private let log: Logger
    private let restarts: Counter
    private let failures: Counter

    fileprivate init(
        _ name: String, rule: Supervision.Rule, registry: MetricsRegistry, log: Logger,
        random: any RandomNumberGenerator & Sendable
    ) {
        self.name = name
        self.log = log
        values = Lock(Values(supervision: Supervision(rule), random: random))
        let labels = [("component", name)]
        restarts = registry.counter(
            "rivulet_component_restarts_total", "Restarts of a component after it failed.", labels)
        failures = registry.counter(
            "rivulet_component_failures_total", "Failures of a component.", labels)
    }

    package var status: ComponentStatus {
        values.withLock {
            let supervision = $0.supervision
            return ComponentStatus(
                name: name, phase: supervision.phase, restarts: supervision.restarts,
                reason: supervision.reason, started: $0.started)
        }
    }

    /// It is being started, for the first time or again.
    package func start() {
        let isRestart = values.withLock { values in
            let before = values.supervision.restarts
            values.started = .now
            values.supervision.start()
            return values.supervision.restarts > before
        }
        guard isRestart else { return }
        restarts.add()
        log.notice("restarting a component", LogField("component", name))
    }

    package func isUp() {
        let before = values.withLock { values in
            let before = values.supervision.phase
            values.supervision.isUp()
            return before
        }
        guard before == .failed || before == .restarting else { return }
        log.notice("a component is up again", LogField("component", name))
    }

    /// It has failed. Returns when to start it again, from now; `nil` where it was stopped.
    package func failed(_ reason: String, at now: MonotonicTime = .now) -> Duration? {
        let (pause, phase) = values.withLock { values in
            (
                values.supervision.failed(reason, at: now, using: &values.random),
                values.supervision.phase
            )
        }
        guard let pause else { return nil }
        failures.add()
        if phase == .failed {
            log.error(
                "a component fails too often; this node is not ready", LogField("component", name),
                LogField("reason", reason), LogField("next", "\(pause)"))
        } else {
            log.error(
                "a component has failed and is restarted", LogField("component", name),
                LogField("reason", reason), LogField("after", "\(pause)"))
        }
        return pause
    }

    package func stop() { values.withLock { $0.supervision.stop() } }
}

/// Knows the components of a node, and makes them visible.
///
/// View: node. Threads: any.
package final class Supervisor: Sendable {
    private let rule: Supervision.Rule
    private let registry: MetricsRegistry
    private let log: Logger
    private let components = Lock<[Component]>([])

    package init(_ rule: Supervision.Rule, in registry: MetricsRegistry, log: Logger) {
        self.rule = rule
        self.registry = registry
        self.log = log
    }

    /// Takes one more component under supervision.
    ///
    /// - Parameter restarts: False for one that cannot be restarted, only watched: its first
    ///   failure is one for good, until it is up again by itself.
    package func supervise(_ name: String, restarts: Bool = true) -> Component {
        var rule = rule
        if !restarts { rule.restartsMax = 0 }
        let component = Component(
            name, rule: rule, registry: registry, log: log, random: SystemRandomNumberGenerator())
        components.withLock { $0.append(component) }
        for phase in Supervision.Phase.allCases {
            registry.gauge(
                "rivulet_component_phase", "1 for the phase that a component is in.",
                [("component", name), ("phase", phase.rawValue)],
                reading: { component.status.phase == phase ? 1 : 0 })
        }
        return component
    }

    /// In the order in which they were taken.
    package var statuses: [ComponentStatus] { components.withLock { $0 }.map(\.status) }
}

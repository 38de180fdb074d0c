// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerCore
import Coordination
import HTTP1Wire
import HTTPServer
import NodeConfiguration
import Observability
import PosixIO
import Reactor

/// One gate of a node for a rate that the cluster shares.
///
/// View: node. Threads: any.
final class SharedRate: RateLever {
    /// As many events as are due in this time may leave at once: events that come one at a time, 20
    /// a second and more, lose nothing of the rate.
    static let burst: Duration = .milliseconds(50)
    /// Over any time as long as this the rate is not exceeded.
    static let window: Duration = .seconds(2)

    let gate = RateGate(burst: burst, window: window)
    private let users = Lock(0)
    private let isForEverybody: Bool

    init(isForEverybody: Bool) { self.isForEverybody = isForEverybody }

    func addUser() { users.withLock { $0 += 1 } }

    /// True where it was the last.
    func removeUser() -> Bool {
        users.withLock {
            $0 -= 1
            return $0 == 0
        }
    }

    func takeDemand(over span: Duration) -> (perSecond: Double, wasShort: Bool)? {
        let demand = gate.takeDemand()
        guard isForEverybody || users.withLock({ $0 > 0 }) else { return nil }
        return (Double(demand.count) / max(0.01, span.inSeconds), demand.wasShort)
    }

    func set(thousandths: Int) { gate.set(thousandths: thousandths) }
}

/// A client that has been admitted: what it holds until it goes.
struct Admitted {
    let principal: String
    let places: [BudgetName]
    let gates: [MeteredGate]
}

/// The limits of a node on what clients may have of it, and its parts of those of the cluster.
///
/// View: node. Threads: any.
final class NodeLimits: Sendable {
    let ledger: BudgetLedger
    private let limits: LimitsSection
    private let addresses: ClientAddress
    let clusterRate: SharedRate?
    private let principalRates = Lock<[String: SharedRate]>([:])
    /// Has the cluster's loop share a principal's rate.
    private let onNewRate = Lock<(@Sendable (String, SharedRate) -> Void)?>(nil)

    /// Events that one connection with a rate may get at once: those of a second.
    private static let connectionBurst: Duration = .seconds(1)

    init(_ configuration: Configuration, in registry: MetricsRegistry) {
        limits = configuration.limits
        addresses = ClientAddress(trustedProxies: configuration.server.trustedProxies)
        ledger = BudgetLedger(
            .init(
                connections: limits.clusterConnections > 0 ? limits.clusterConnections : nil,
                principalConnections: limits.principalConnections > 0
                    ? limits.principalConnections : nil,
                lease: configuration.cluster.lease),
            metrics: BudgetMetrics(in: registry))
        clusterRate = limits.clusterEventRate > 0 ? SharedRate(isForEverybody: true) : nil
        register(in: registry)
    }

    /// True where nobody has to be asked and nothing is counted.
    private var isUnlimited: Bool {
        limits.clusterConnections == 0 && limits.principalConnections == 0 && !limits.hasEventRates
    }

    func whenRateIsNew(_ action: @escaping @Sendable (String, SharedRate) -> Void) {
        onNewRate.withLock { $0 = action }
    }

    // MARK: - Admission

    /// Admits who sent `request`, now or later on the same loop, or answers with what stands
    /// against it.
    ///
    /// - Parameter rate: Events a second that it asks for.
    func admit(
        _ request: HTTPRequest, _ exchange: HTTPExchange, asking rate: Int?, on loop: EventLoop,
        then: @escaping (Admitted) -> Void
    ) {
        guard !isUnlimited || rate != nil else {
            return then(Admitted(principal: "", places: [], gates: []))
        }
        let principal = addresses.principal(request.head.headers, peer: request.peer)
        // Who asks for a head alone gets no stream.
        let wanted = request.head.method == .head ? [] : ledger.names(for: principal)
        let waiting = Waiting(self, exchange, principal, rate, loop, then)
        waiting.take(wanted[...], having: [])
    }

    /// A request on its way through the budgets that it needs a place of.
    private final class Waiting {
        private let limits: NodeLimits
        private let exchange: HTTPExchange
        private let principal: String
        private let rate: Int?
        private let loop: EventLoop
        private let then: (Admitted) -> Void

        init(
            _ limits: NodeLimits, _ exchange: HTTPExchange, _ principal: String, _ rate: Int?,
            _ loop: EventLoop, _ then: @escaping (Admitted) -> Void
        ) {
            self.limits = limits
            self.exchange = exchange
            self.principal = principal
            self.rate = rate
            self.loop = loop
            self.then = then
        }

        func take(_ wanted: ArraySlice<BudgetName>, having places: [BudgetName]) {
            guard let name = wanted.first else { return done(places) }
            let bound = LoopBound(self, on: loop)
            let verdict = limits.ledger.acquire(name, on: loop) { verdict in
                bound.value.take(verdict, of: name, wanted.dropFirst(), places)
            }
            if verdict != .wait { take(verdict, of: name, wanted.dropFirst(), places) }
        }

        private func take(
            _ verdict: LeasedBudget.Verdict, of name: BudgetName,
            _ wanted: ArraySlice<BudgetName>, _ places: [BudgetName]
        ) {
            switch verdict {
            case .wait: break
            case .admitted: take(wanted, having: places + [name])
            case .refused(let refusal):
                limits.ledger.release(places)
                exchange.respond(
                    limits.problem(refusal, of: name),
                    // Spread out, so that those who were turned away together do not come together.
                    headers: [("Retry-After", "\(Int.random(in: 1...5))")])
            }
        }

        private func done(_ places: [BudgetName]) {
            guard !exchange.clientHasGone else {
                limits.ledger.release(places)
                return exchange.respond(status: 503)
            }
            let gates = limits.gates(of: principal, asking: rate)
            then(Admitted(principal: principal, places: places, gates: gates))
        }
    }

    /// The client has gone.
    func release(_ admitted: Admitted) {
        ledger.release(admitted.places)
        guard limits.principalEventRate > 0, !admitted.gates.isEmpty else { return }
        principalRates.withLock { rates in
            if rates[admitted.principal]?.removeUser() ?? false { rates[admitted.principal] = nil }
        }
    }

    private func problem(_ refusal: LeasedBudget.Refusal, of name: BudgetName) -> ProblemDetails {
        let isPrincipal = name.principal != nil
        let maximum = isPrincipal ? limits.principalConnections : limits.clusterConnections
        let detail =
            switch refusal {
            case .full where isPrincipal: "This client has \(maximum) connections already."
            case .full: "All \(maximum) connections of the cluster are taken."
            case .unreachable:
                "Redis, which shares the connections out, cannot be asked at the moment, and this "
                    + "node has given out its part."
            case .crowded: "Too many wait to be admitted."
            }
        var problem = ProblemDetails(
            status: isPrincipal && refusal == .full ? 429 : 503,
            title: isPrincipal ? "Too many connections" : "Cluster full", detail: detail)
        problem.limit = isPrincipal ? "limits.principal_connections" : "limits.cluster_connections"
        problem.maximum = maximum
        return problem
    }

    // MARK: - Rates

    /// What the events of a connection are counted against, the narrowest first.
    private func gates(of principal: String, asking rate: Int?) -> [MeteredGate] {
        var gates: [MeteredGate] = []
        let own = rate ?? limits.connectionEventRate
        if own > 0 {
            gates.append(
                MeteredGate(
                    RateGate(thousandths: own * 1000, burst: Self.connectionBurst), .connection))
        }
        if limits.principalEventRate > 0 {
            gates.append(MeteredGate(sharedRate(of: principal).gate, .principal))
        }
        if let clusterRate { gates.append(MeteredGate(clusterRate.gate, .cluster)) }
        return gates
    }

    private func sharedRate(of principal: String) -> SharedRate {
        let (rate, isNew) = principalRates.withLock { rates in
            if let known = rates[principal] {
                known.addUser()
                return (known, false)
            }
            let made = SharedRate(isForEverybody: false)
            made.addUser()
            rates[principal] = made
            return (made, true)
        }
        if isNew { onNewRate.withLock { $0 }?(principal, rate) }
        return rate
    }

    // MARK: - For people

    private func register(in registry: MetricsRegistry) {
        guard let maximum = ledger.settings.connections else { return }
        let ledger = ledger
        registry.gauge(
            "rivulet_cluster_connections_limit",
            "Streams and WebSockets that the whole cluster admits.", reading: { Double(maximum) })
        registry.gauge(
            "rivulet_cluster_connections_leased", "Of these, the part that this node has.",
            reading: { Double(ledger.connections?.leased ?? 0) })
        registry.gauge(
            "rivulet_cluster_connections_held", "Of its part, what is in use.",
            reading: { Double(ledger.connections?.held ?? 0) })
    }
}

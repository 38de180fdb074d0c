// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
import PosixIO
package import Reactor

/// What a node delivers at, as far as its part of a shared rate goes.
package protocol RateLever: AnyObject, Sendable {
    /// What was to be delivered since it was last asked, and whether some of it had to wait or was
    /// shed for want of this rate. `nil` where nobody is connected whom the rate concerns.
    func takeDemand(over span: Duration) -> (perSecond: Double, wasShort: Bool)?
    /// The new rate, in thousandths of an event a second.
    func set(thousandths: Int)
}

/// Places of connections, for all loops of a node: what ``LeasedBudget`` decides, and who waits.
///
/// View: node, but for the limits, which are the cluster's. Threads: any. ``BudgetKeeper`` asks
/// Redis on its behalf.
package final class BudgetLedger: Sendable {
    package struct Settings: Sendable, Equatable {
        /// Connections of the whole cluster; `nil` is no limit.
        package var connections: Int?
        /// Connections of one principal; `nil` is no limit.
        package var principalConnections: Int?
        /// The length of a node's lease.
        package var lease: Duration
        /// How long somebody waits for a place at most.
        package var waitMax: Duration = .seconds(2)

        package init(connections: Int? = nil, principalConnections: Int? = nil, lease: Duration) {
            self.connections = connections
            self.principalConnections = principalConnections
            self.lease = lease
        }
    }

    /// Somebody who waits for a place.
    struct Waiter {
        let since: MonotonicTime
        let loop: EventLoop
        let completion: @Sendable (LeasedBudget.Verdict) -> Void

        func tell(_ verdict: LeasedBudget.Verdict) {
            let completion = completion
            loop.post { completion(verdict) }
        }
    }

    struct Account {
        var budget: LeasedBudget
        /// The first has waited longest.
        var waiters: [Waiter] = []
        /// When Redis was last told, so that it does not forget.
        var toldAt: MonotonicTime?
    }

    package let settings: Settings
    package let metrics: BudgetMetrics
    private let accounts = Lock<[BudgetName: Account]>([:])
    private let onAskDue = Lock<(@Sendable (BudgetName) -> Void)?>(nil)

    /// Principals that a node keeps accounts for at most; each costs some hundred bytes. It has no
    /// more connections than descriptors, which are fewer.
    static let principalsMax = 1_000_000

    package init(_ settings: Settings, metrics: BudgetMetrics) {
        self.settings = settings
        self.metrics = metrics
        if let maximum = settings.connections {
            accounts.withLock {
                $0[BudgetName(.connections)] = Account(
                    budget: LeasedBudget(.init(maximum: maximum, lease: settings.lease)))
            }
        }
    }

    /// Which budgets a connection of `principal` needs a place of: its own first, because that is
    /// the narrower.
    package func names(for principal: String) -> [BudgetName] {
        var names: [BudgetName] = []
        if settings.principalConnections != nil {
            names.append(BudgetName(.connections, of: principal))
        }
        if settings.connections != nil { names.append(BudgetName(.connections)) }
        return names
    }

    /// Takes a place. Where Redis has to be asked first, `completion` is called on `loop` later,
    /// with ``LeasedBudget/Verdict/admitted`` or a refusal.
    package func acquire(
        _ name: BudgetName, on loop: EventLoop,
        _ completion: @escaping @Sendable (LeasedBudget.Verdict) -> Void
    ) -> LeasedBudget.Verdict {
        let now = MonotonicTime.now
        let (verdict, isAskDue) = accounts.withLock { accounts in
            guard var account = accounts[name] ?? newAccount(name, among: accounts.count) else {
                return (LeasedBudget.Verdict.refused(.crowded), false)
            }
            let verdict = account.budget.acquire(at: now)
            if verdict == .wait {
                account.waiters.append(Waiter(since: now, loop: loop, completion: completion))
            }
            accounts[name] = account
            return (verdict, account.budget.isAskDue)
        }
        if isAskDue { onAskDue.withLock { $0 }?(name) }
        if case .refused(let refusal) = verdict { metrics.count(refusal, of: name) }
        return verdict
    }

    private func newAccount(_ name: BudgetName, among count: Int) -> Account? {
        guard let maximum = settings.principalConnections, count < Self.principalsMax else {
            return nil
        }
        // One at a time: a principal has few places, and its next connection may come anywhere.
        return Account(
            budget: LeasedBudget(.init(maximum: maximum, chunkMax: 0, lease: settings.lease)))
    }

    /// Gives places back.
    package func release(_ names: [BudgetName]) {
        let now = MonotonicTime.now
        for name in names {
            let waiter: Waiter? = accounts.withLock { accounts in
                guard accounts[name]?.budget.release(at: now) ?? false else { return nil }
                return accounts[name]?.waiters.removeFirst()
            }
            if let waiter { admit(waiter, now) }
        }
    }

    private func admit(_ waiter: Waiter, _ now: MonotonicTime) {
        metrics.waitTime.record(now - waiter.since)
        waiter.tell(.admitted)
    }

    /// What this node has of the cluster's connections; `nil` where they are not limited.
    package var connections: LeasedBudget? {
        accounts.withLock { $0[BudgetName(.connections)]?.budget }
    }

    /// Principals with an account at this moment.
    package var principalCount: Int {
        accounts.withLock { $0.count - (settings.connections == nil ? 0 : 1) }
    }

    // MARK: - For the keeper

    func whenAskIsDue(_ action: (@Sendable (BudgetName) -> Void)?) {
        onAskDue.withLock { $0 = action }
    }

    /// Those that should be asked about: all that have something to say, and those whose place in
    /// Redis would be forgotten.
    func namesToAsk(at now: MonotonicTime, soonOnly: Bool) -> [BudgetName] {
        accounts.withLock { accounts in
            accounts.compactMap { name, account in
                if account.budget.isAskDue { return name }
                if soonOnly || account.budget.isAsking { return nil }
                if name.principal == nil || account.budget.idle > 0 || account.budget.isAway {
                    return name
                }
                guard let toldAt = account.toldAt else { return name }
                return now - toldAt > BudgetKeeper.reminder ? name : nil
            }
        }
    }

    func ask(_ name: BudgetName) -> BudgetAsk? {
        accounts.withLock { $0[name]?.budget.ask() }
    }

    /// Takes what came of an ask; `nil` where Redis could not be asked.
    func take(_ answer: BudgetAnswer?, for name: BudgetName) {
        let now = MonotonicTime.now
        var admitted: [Waiter] = []
        var refused: [Waiter] = []
        let refusal: LeasedBudget.Refusal? = accounts.withLock { accounts in
            guard var account = accounts[name] else { return nil }
            let admissions =
                answer.map { account.budget.take($0, at: now) } ?? account.budget.failed()
            admitted = Array(account.waiters.prefix(admissions.admitted))
            account.waiters.removeFirst(admissions.admitted)
            if admissions.refusal != nil {
                refused = account.waiters
                account.waiters = []
            }
            if answer != nil { account.toldAt = now }
            let isForgotten = name.principal != nil && account.budget.isUnused
            accounts[name] = isForgotten ? nil : account
            return admissions.refusal
        }
        for waiter in admitted { admit(waiter, now) }
        guard let refusal else { return }
        for waiter in refused {
            metrics.count(refusal, of: name)
            waiter.tell(.refused(refusal))
        }
    }

    /// Refuses those who have waited for too long.
    func refuseLate(at now: MonotonicTime) {
        var late: [(BudgetName, Waiter)] = []
        accounts.withLock { accounts in
            for (name, account) in accounts where !account.waiters.isEmpty {
                var account = account
                while let first = account.waiters.first, now - first.since >= settings.waitMax {
                    late.append((name, first))
                    account.waiters.removeFirst()
                    account.budget.cancel()
                }
                accounts[name] = account
            }
        }
        for (name, waiter) in late {
            metrics.count(.full, of: name)
            waiter.tell(.refused(.full))
        }
    }

    /// True while anybody waits.
    var hasWaiters: Bool { accounts.withLock { $0.values.contains { !$0.waiters.isEmpty } } }
}

/// What admission counts. View: node.
package final class BudgetMetrics: Sendable {
    private let refusals: [String: Counter]
    package let asks: Counter
    package let failures: Counter
    package let waitTime: DurationHistogram

    package init(in registry: MetricsRegistry) {
        var refusals: [String: Counter] = [:]
        for limit in ["cluster", "principal"] {
            for reason in ["full", "unreachable", "crowded"] {
                refusals["\(limit) \(reason)"] = registry.counter(
                    "rivulet_connections_refused_total",
                    "Streams and WebSockets that were refused by a limit of the cluster.",
                    [("limit", limit), ("reason", reason)])
            }
        }
        self.refusals = refusals
        asks = registry.counter(
            "rivulet_budget_asks_total", "Times this node asked Redis for its part of a limit.")
        failures = registry.counter(
            "rivulet_budget_ask_failures_total", "Of these, those that Redis did not answer.")
        waitTime = registry.histogram(
            "rivulet_admission_wait_seconds",
            "Time that those who were admitted waited for a place, where Redis had to be asked.")
    }

    func count(_ refusal: LeasedBudget.Refusal, of name: BudgetName) {
        refusals["\(name.principal == nil ? "cluster" : "principal") \(refusal)"]?.add()
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
import PosixIO
package import Reactor
package import RedisClient

/// Asks Redis for this node's parts of the cluster's limits, and gives back what it does not use.
///
/// View: node. Threads: its loop's, which is that of the lease; ``RateLever``s are asked there too.
/// The rules are ``LeasedBudget``'s and ``LeasedRate``'s.
package final class BudgetKeeper {
    /// Redis keeps a budget for as long after it was last spoken of.
    static let keptFor: Duration = .seconds(600)
    /// A part that has not changed is spoken of again after this long.
    static let reminder: Duration = .seconds(120)
    /// How soon one asks again who waits for what others give back.
    private static let retry: Duration = .milliseconds(50)
    /// Rates are asked for this often at least; demand is measured over this time.
    private static let rateInterval: Duration = .milliseconds(250)

    private final class Rate {
        let name: BudgetName
        var lever: any RateLever
        var share: LeasedRate
        var measuredAt: MonotonicTime
        var demand: (perSecond: Double, wasShort: Bool)? = (0, false)

        init(_ name: BudgetName, _ lever: any RateLever, _ share: LeasedRate) {
            self.name = name
            self.lever = lever
            self.share = share
            measuredAt = .now
        }
    }

    private let loop: EventLoop
    private let connection: RedisConnection
    private let keys: ClusterKeys
    private let ledger: BudgetLedger
    private let interval: Duration
    private let log: Logger
    /// Who this node is; `nil` while it holds no lease.
    private let identity: () -> (id: String, incarnation: String)?
    private var rates: [BudgetName: Rate] = [:]
    private var isStopped = false
    private var isWarned = false
    private lazy var ticking = LoopTimer { [weak self] in self?.tick() }
    private lazy var retrying = LoopTimer { [weak self] in self?.again() }
    private lazy var measuring = LoopTimer { [weak self] in self?.measure() }
    private lazy var askingAgain = LoopTimer { [weak self] in self?.askAgain() }

    /// Made on the loop.
    ///
    /// - Parameter interval: Between two asks about what has not changed: that of the lease.
    package init(
        loop: EventLoop, connection: RedisConnection, keys: ClusterKeys, ledger: BudgetLedger,
        interval: Duration, log: Logger,
        identity: @escaping () -> (id: String, incarnation: String)?
    ) {
        self.loop = loop
        self.connection = connection
        self.keys = keys
        self.ledger = ledger
        self.interval = interval
        self.log = log
        self.identity = identity
    }

    package func start() {
        let bound = LoopBound(self, on: loop)
        let loop = loop
        ledger.whenAskIsDue { name in loop.post { bound.value.ask(about: name) } }
        tick()
        measure()
    }

    package func stop() {
        isStopped = true
        ledger.whenAskIsDue(nil)
        for timer in [ticking, retrying, measuring, askingAgain] { loop.cancel(timer) }
    }

    /// Shares a rate with the other nodes from here on.
    ///
    /// - Parameter perSecond: Events of the whole cluster.
    package func share(_ name: BudgetName, perSecond: Int, through lever: any RateLever) {
        guard !isStopped else { return }
        if let known = rates[name] {
            // The one before has gone, and this one has come before that was told.
            known.lever = lever
            known.demand = (0, false)
            lever.set(thousandths: known.share.leased)
            return ask(about: known)
        }
        let share = LeasedRate(perSecond: perSecond, lease: ledger.settings.lease)
        rates[name] = Rate(name, lever, share)
        rates[name].map { ask(about: $0) }
    }

    /// Redis answers again, or the lease is held: what waits need not wait for the next tick.
    package func askSoon() {
        guard !isStopped else { return }
        for name in ledger.namesToAsk(at: .now, soonOnly: false) { ask(about: name) }
        for rate in rates.values { ask(about: rate) }
    }

    // MARK: - Places

    private func tick() {
        guard !isStopped else { return }
        let now = MonotonicTime.now
        ledger.refuseLate(at: now)
        for name in ledger.namesToAsk(at: now, soonOnly: false) { ask(about: name) }
        loop.schedule(ticking, after: interval)
    }

    private func again() {
        guard !isStopped else { return }
        let now = MonotonicTime.now
        ledger.refuseLate(at: now)
        for name in ledger.namesToAsk(at: now, soonOnly: true) { ask(about: name) }
        if ledger.hasWaiters, !retrying.isScheduled { loop.schedule(retrying, after: Self.retry) }
    }

    private func ask(about name: BudgetName) {
        guard !isStopped else { return }
        guard connection.state == .ready else {
            // Nobody can be asked: what is at hand is given out, and no more.
            if ledger.ask(name) != nil { ledger.take(nil, for: name) }
            return
        }
        guard let identity = identity() else {
            // The lease is about to be taken; whoever waits goes on waiting.
            if !retrying.isScheduled { loop.schedule(retrying, after: Self.retry) }
            return
        }
        guard let ask = ledger.ask(name) else { return }
        send(ask, name, identity) { [weak self] answer in
            guard let self else { return }
            ledger.take(answer, for: name)
            guard !isStopped else { return }
            // What is to be given back is, at once: somebody may wait for it.
            if ledger.hasWaiters {
                if !retrying.isScheduled { loop.schedule(retrying, after: Self.retry) }
            } else if !ledger.namesToAsk(at: .now, soonOnly: true).isEmpty {
                again()
            }
        }
    }

    private func send(
        _ ask: BudgetAsk, _ name: BudgetName, _ identity: (id: String, incarnation: String),
        _ done: @escaping (BudgetAnswer?) -> Void
    ) {
        var command = RedisCommand(script: BudgetScripts.share, keys: keys.share(name))
        command.append(identity.id)
        command.append(identity.incarnation)
        command.append(ledger.settings.lease.wholeMilliseconds)
        command.append(ask.sequence)
        for number in [ask.maximum, ask.claim, ask.held, ask.need, ask.spare] {
            command.append(number)
        }
        command.append(Self.keptFor.wholeMilliseconds)
        command.append(name.unit.rawValue)
        ledger.metrics.asks.add()
        connection.send(command) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success(let reply):
                isWarned = false
                let answer = BudgetAnswer(reply)
                if answer == nil { warn("Redis answered an ask for a budget with something else") }
                done(answer)
            case .failure(let error):
                ledger.metrics.failures.add()
                warn("Redis could not be asked for a budget: \(error)")
                done(nil)
            }
        }
    }

    /// Once an outage is enough; the breaker tells of it too.
    private func warn(_ text: String) {
        guard !isWarned else { return }
        isWarned = true
        log.warning(text)
    }

    // MARK: - Rates

    private func measure() {
        guard !isStopped else { return }
        let now = MonotonicTime.now
        for rate in rates.values {
            rate.demand = rate.lever.takeDemand(over: now - rate.measuredAt)
            rate.measuredAt = now
            if rate.demand == nil { rate.lever.set(thousandths: 0) }
            ask(about: rate)
        }
        loop.schedule(measuring, after: Self.rateInterval)
    }

    /// Asks again about those that give something back, or wait for what others give back.
    private func askAgain() {
        guard !isStopped else { return }
        for rate in rates.values where rate.share.isAskDue { ask(about: rate) }
    }

    private func ask(about rate: Rate) {
        guard !isStopped, connection.state == .ready, let identity = identity(),
            let ask = rate.share.ask(
                offered: Int(min((rate.demand?.perSecond ?? 0) * 1000, 1e15)),
                wasShort: rate.demand?.wasShort ?? false, isIdle: rate.demand == nil)
        else { return }
        send(ask, rate.name, identity) { [weak self] answer in
            guard let self else { return }
            guard let answer else { return rate.share.failed() }
            rate.share.take(answer, at: .now)
            rate.lever.set(thousandths: rate.share.leased)
            if rate.demand == nil, rate.share.isUnused {
                rates[rate.name] = nil
            } else if rate.share.owesClaim {
                // It has stopped using what it says it gives back.
                self.ask(about: rate)
            } else if rate.share.isAskDue, !askingAgain.isScheduled, !isStopped {
                loop.schedule(askingAgain, after: Self.retry)
            }
        }
    }

    /// The limits that are everybody's, as Redis told of them last.
    package var limits: [ClusterLimit] {
        var limits: [ClusterLimit] = []
        if let budget = ledger.connections {
            let own = BudgetShare(leased: budget.leased, held: budget.held)
            let all = budget.answer.map { BudgetShare(leased: $0.1.leased, held: $0.1.held) }
            limits.append(
                ClusterLimit(
                    name: BudgetName(.connections), maximum: budget.settings.maximum,
                    all: all ?? own, own: own))
        }
        if let rate = rates[BudgetName(.eventRate)] {
            let own = BudgetShare(leased: rate.share.leased, held: 0)
            let all = rate.share.answer.map { BudgetShare(leased: $0.1.leased, held: 0) }
            limits.append(
                ClusterLimit(
                    name: rate.name, maximum: rate.share.maximum, all: all ?? own, own: own))
        }
        return limits
    }
}

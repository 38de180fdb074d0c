// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import CLinux
import Glibc
package import PosixIO
import Synchronization

/// One thread that waits for sockets, timers and messages, and runs what they wake.
///
/// View: shard. Threads: ``post(_:)``, ``stop()``, ``isCurrent`` and ``name`` may be used from any
/// thread; everything else belongs to the loop's own thread and says so with a precondition.
/// Lifecycle: ``start()`` once, ``stop()`` once; the thread ends after the work posted before
/// the stop has run. Nothing that can block may run here.
///
/// Within one turn the loop runs, in this order: messages, sockets that are ready, timers that
/// are due, and the work for the end of the turn. What arrives in one turn can therefore leave in
/// one write.
package final class EventLoop: @unchecked Sendable {
    // @unchecked: `mailbox`, `thread` and the atomics are safe for all threads; every other stored
    // property is touched only on the loop's thread, which each method checks.

    package let name: String

    private struct Mailbox {
        var waiting: [@Sendable () -> Void] = []
        var isWoken = false
        var isClosed = false
    }

    private let mailbox = Lock(Mailbox())
    private let threadID = Atomic<UInt>(0)
    private let stopRequested = Atomic<Bool>(false)
    private let turnCount = Atomic<UInt64>(0)
    private let busyNanoseconds = Atomic<UInt64>(0)
    private let thread = Lock<NamedThread?>(nil)
    private let poller: OwnedDescriptor
    private let waker: OwnedDescriptor
    private let cpu: Int?

    // On the loop's thread only.
    private var handlers = Slab<any ReadinessHandler>()
    private var running: [@Sendable () -> Void] = []
    private var wheel: TimerWheel
    private var endOfTurn: [any EndOfTurnWork] = []
    private var due: [LoopTimer] = []
    private var cancelledInTurn: Set<ObjectIdentifier> = []
    private var current = MonotonicTime.now

    /// - Parameter cpu: The processor to stay on, or `nil` to go where the kernel says.
    package init(name: String, cpu: Int? = nil) throws(Errno) {
        let poller = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard poller >= 0 else { throw .current }
        self.poller = OwnedDescriptor(adopting: poller)
        let waker = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        guard waker >= 0 else { throw .current }
        self.waker = OwnedDescriptor(adopting: waker)
        self.name = name
        self.cpu = cpu
        wheel = TimerWheel(now: current)
        let added = clinux_epoll_control(
            poller, EPOLL_CTL_ADD, waker, EPOLLIN.rawValue | EPOLLET.rawValue, Self.wakerTag)
        guard added == 0 else { throw .current }
    }

    // MARK: - From any thread

    package func start() {
        thread.withLock { thread in
            precondition(thread == nil, "loop \(name) is started twice")
            thread = NamedThread(name) { [self] in run() }
        }
    }

    /// Runs `work` on the loop, after what was posted before. False once the loop has stopped;
    /// `work` is dropped then.
    @discardableResult
    package func post(_ work: @escaping @Sendable () -> Void) -> Bool {
        let outcome: (accepted: Bool, wake: Bool) = mailbox.withLock { mailbox in
            guard !mailbox.isClosed else { return (false, false) }
            mailbox.waiting.append(work)
            let wake = !mailbox.isWoken
            mailbox.isWoken = true
            return (true, wake)
        }
        // The loop empties its mailbox before it sleeps, so it never needs to wake itself.
        if outcome.wake, !isCurrent { wakeUp() }
        return outcome.accepted
    }

    /// Runs `body` on the loop and waits for what it returns; `nil` where the loop has stopped.
    ///
    /// For starting and stopping, from a thread that is no loop.
    @discardableResult
    package func answer<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Value? {
        precondition(!isCurrent, "loop \(name) would wait for itself")
        let result = Lock<Value?>(nil)
        let done = eventfd(0, Int32(EFD_CLOEXEC))
        precondition(done >= 0, "eventfd: \(Errno.current)")
        let signal = OwnedDescriptor(adopting: done)
        let accepted = post {
            let value = body()
            result.withLock { $0 = value }
            var one: UInt64 = 1
            _ = unsafe write(done, &one, 8)
        }
        guard accepted else { return nil }
        var count: UInt64 = 0
        while unsafe read(signal.number, &count, 8) < 0, errno == EINTR {}
        return result.withLock { $0 }
    }

    package var isCurrent: Bool { threadID.load(ordering: .relaxed) == Self.callingThread }

    /// Asks the loop to end after the work posted so far.
    package func stop() {
        stopRequested.store(true, ordering: .releasing)
        wakeUp()
    }

    /// Waits until the loop's thread has ended; false where it has not within `limit`.
    package func join(within limit: Duration) -> Bool {
        let thread = thread.withLock { $0 }
        return thread?.join(within: limit) ?? true
    }

    /// How many turns the loop has made, and for how long it was not waiting. For metrics.
    package var activity: (turns: UInt64, busy: Duration) {
        (
            turnCount.load(ordering: .relaxed),
            .nanoseconds(Int64(clamping: busyNanoseconds.load(ordering: .relaxed)))
        )
    }

    // MARK: - On the loop

    /// The time at which this turn began; read once a turn, so it costs nothing.
    package var now: MonotonicTime {
        requireCurrent()
        return current
    }

    /// Calls `handler` whenever `descriptor` is ready for what `interest` names.
    ///
    /// Level-triggered: the handler is called again as long as it leaves something to do. The
    /// registration holds the handler strongly until ``deregister(_:descriptor:)``.
    package func register(
        _ descriptor: CInt, for interest: Interest, handler: any ReadinessHandler
    ) throws(Errno) -> Registration {
        requireCurrent()
        let key = handlers.insert(handler)
        let status = clinux_epoll_control(
            poller.number, EPOLL_CTL_ADD, descriptor, interest.epollEvents, key.packed)
        guard status == 0 else {
            let error = Errno.current
            handlers.remove(key)
            throw error
        }
        return Registration(key: key.packed)
    }

    package func update(_ registration: Registration, descriptor: CInt, to interest: Interest) {
        requireCurrent()
        let status = clinux_epoll_control(
            poller.number, EPOLL_CTL_MOD, descriptor, interest.epollEvents, registration.key)
        // The descriptor is open and ours, so the kernel can only refuse for want of memory.
        precondition(status == 0, "epoll_ctl(MOD) on \(descriptor): \(Errno.current)")
    }

    /// Ends a registration. Call it before the descriptor is closed; an event that the kernel has
    /// already reported in this turn is dropped, because its tag no longer names anything.
    package func deregister(_ registration: Registration, descriptor: CInt) {
        requireCurrent()
        handlers.remove(.init(packed: registration.key))
        _ = clinux_epoll_control(poller.number, EPOLL_CTL_DEL, descriptor, 0, 0)
    }

    /// Fires `timer` once, `delay` from now and at most a millisecond late by the loop's own
    /// doing. A timer that is already running is moved, at no cost in memory.
    package func schedule(_ timer: LoopTimer, after delay: Duration) {
        requireCurrent()
        wheel.schedule(timer, at: MonotonicTime.now + delay)
    }

    package func cancel(_ timer: LoopTimer) {
        requireCurrent()
        if !due.isEmpty { cancelledInTurn.insert(ObjectIdentifier(timer)) }
        wheel.remove(timer)
    }

    /// Runs `work` once when everything else of this turn is done.
    package func atEndOfTurn(_ work: any EndOfTurnWork) {
        requireCurrent()
        endOfTurn.append(work)
    }

    package func requireCurrent() {
        precondition(isCurrent, "used off its thread: loop \(name)")
    }

    // MARK: - The thread

    private static let wakerTag = UInt64.max
    private static let eventsPerWait = 1024
    private static let longestWait: Duration = .seconds(1)

    private static var callingThread: UInt { UInt(pthread_self()) }

    private func run() {
        threadID.store(Self.callingThread, ordering: .relaxed)
        if let cpu { clinux_set_affinity(CInt(cpu)) }
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.eventsPerWait)
        defer { unsafe events.deallocate() }
        var isLast = false
        while true {
            current = .now
            let turnStart = current
            runMail()
            if isLast { break }
            fireTimers()
            runEndOfTurn()
            turnCount.wrappingAdd(1, ordering: .relaxed)
            let busy = MonotonicTime.now.nanoseconds - turnStart.nanoseconds
            busyNanoseconds.wrappingAdd(busy, ordering: .relaxed)
            isLast = stopRequested.load(ordering: .acquiring)
            unsafe waitAndDispatch(events, mayWait: !isLast && !mailIsWaiting())
            runEndOfTurn()
        }
        mailbox.withLock { mailbox in
            mailbox.isClosed = true
            mailbox.waiting.removeAll()
        }
    }

    /// True where mail has come since the mailbox was emptied; else arms the waker.
    private func mailIsWaiting() -> Bool {
        mailbox.withLock { mailbox in
            mailbox.isWoken = !mailbox.waiting.isEmpty
            return mailbox.isWoken
        }
    }

    /// Runs one mailbox full, so that a busy sender cannot starve the sockets.
    private func runMail() {
        mailbox.withLock { swap(&$0.waiting, &running) }
        for work in running { work() }
        running.removeAll(keepingCapacity: running.capacity <= 4096)
    }

    private func fireTimers() {
        wheel.takeDue(until: current, into: &due)
        // An action may cancel a timer that is due in the same turn: it is skipped, not fired.
        for timer in due where !cancelledInTurn.contains(ObjectIdentifier(timer)) { timer.action() }
        due.removeAll(keepingCapacity: true)
        cancelledInTurn.removeAll(keepingCapacity: true)
    }

    private func waitAndDispatch(_ events: UnsafeMutablePointer<epoll_event>, mayWait: Bool) {
        var timeout: CInt = 0
        if mayWait {
            let until = min(wheel.nextDeadline ?? .init(nanoseconds: .max), .now + Self.longestWait)
            let left = until - .now
            timeout =
                left <= .zero ? 0 : CInt(clamping: (left.wholeNanoseconds + 999_999) / 1_000_000)
        }
        let count = unsafe epoll_wait(
            poller.number, events, CInt(Self.eventsPerWait), timeout)
        guard count > 0 else { return }
        current = .now
        for index in 0..<Int(count) {
            let event = unsafe events[index]
            let tag = unsafe event.data.u64
            if tag == Self.wakerTag {
                var drained: UInt64 = 0
                _ = unsafe read(waker.number, &drained, 8)
                continue
            }
            unsafe handlers[.init(packed: tag)]?.descriptorIsReady(
                Readiness(epollEvents: event.events))
        }
    }

    private func runEndOfTurn() {
        // Work may ask for work; that belongs to the same turn.
        var index = 0
        while index < endOfTurn.count {
            endOfTurn[index].runAtEndOfTurn()
            index += 1
        }
        endOfTurn.removeAll(keepingCapacity: true)
    }

    private func wakeUp() {
        var one: UInt64 = 1
        _ = unsafe write(waker.number, &one, 8)
    }
}

/// Names one registered descriptor on one loop.
package struct Registration: Sendable, Hashable {
    let key: UInt64
}

/// What a descriptor is watched for.
package struct Interest: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let readable = Interest(rawValue: 1)
    package static let writable = Interest(rawValue: 2)

    var epollEvents: UInt32 {
        var events: UInt32 = 0
        if contains(.readable) { events |= EPOLLIN.rawValue | EPOLLRDHUP.rawValue }
        if contains(.writable) { events |= EPOLLOUT.rawValue }
        return events
    }
}

/// What a descriptor is ready for.
package struct Readiness: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// There is something to read, if only the end.
    package var hasInput: Bool {
        rawValue & (Self.readable.rawValue | Self.peerClosed.rawValue) != 0
    }
    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The connection has failed or both sides have closed it; a read or write says which.
    package static let failed = Readiness(rawValue: 4)
    /// The peer will send nothing more.
    package static let peerClosed = Readiness(rawValue: 8)

    init(epollEvents: UInt32) {
        var readiness: Readiness = []
        if epollEvents & EPOLLIN.rawValue != 0 { readiness.insert(.readable) }
        if epollEvents & EPOLLOUT.rawValue != 0 { readiness.insert(.writable) }
        if epollEvents & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 { readiness.insert(.failed) }
        if epollEvents & EPOLLRDHUP.rawValue != 0 { readiness.insert(.peerClosed) }
        self = readiness
    }
}

/// Something that acts when its descriptor is ready. Called on the loop that it registered with.
package protocol ReadinessHandler: AnyObject {
    func descriptorIsReady(_ readiness: Readiness)
}

/// Something that acts once everything else of a turn is done.
package protocol EndOfTurnWork: AnyObject {
    func runAtEndOfTurn()
}

/// A value that only one loop may touch, in a box that any thread may carry.
///
/// It is how a message posted to a loop reaches the loop's own, unshared objects.
package final class LoopBound<Value>: @unchecked Sendable {
    // @unchecked: `value` is given out only on its loop, which the getter checks.
    private let stored: Value
    package let loop: EventLoop

    /// Must be made on the loop, or before the loop has started by the thread that made `value`.
    package init(_ value: Value, on loop: EventLoop) {
        stored = value
        self.loop = loop
    }

    package var value: Value {
        loop.requireCurrent()
        return stored
    }
}

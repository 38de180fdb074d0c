// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import PosixIO
import Reactor
import Testing

@Suite("Event loop")
struct EventLoopTests {
    /// Runs `body` on a loop of its own and waits for it to call `finish`.
    private func onLoop(
        _ body: @escaping @Sendable (EventLoop, _ finish: @escaping @Sendable () -> Void) -> Void
    ) throws {
        let loop = try EventLoop(name: "test")
        loop.start()
        let done = OneShot()
        loop.post { body(loop, { done.signal() }) }
        #expect(done.wait(seconds: 10))
        loop.stop()
        #expect(loop.join(within: .seconds(10)))
    }

    @Test("mail runs in the order it was posted, and none is lost at a stop")
    func mailOrder() throws {
        let loop = try EventLoop(name: "mail")
        let seen = Lock<[Int]>([])
        loop.start()
        for number in 0..<10_000 { loop.post { seen.withLock { $0.append(number) } } }
        loop.stop()
        #expect(loop.join(within: .seconds(10)))
        #expect(seen.withLock { $0 } == Array(0..<10_000))
        #expect(!loop.post {})
    }

    @Test("several threads may post at once")
    func manySenders() throws {
        let loop = try EventLoop(name: "senders")
        loop.start()
        let total = Lock(0)
        let threads = (0..<4).map { index in
            NamedThread("sender-\(index)") {
                for _ in 0..<5_000 { loop.post { total.withLock { $0 += 1 } } }
            }
        }
        for thread in threads { thread.join() }
        loop.stop()
        #expect(loop.join(within: .seconds(10)))
        #expect(total.withLock { $0 } == 20_000)
    }

    @Test("timers fire in the order of their deadlines, none early, cancelled ones never")
    func timers() throws {
        let fired = Lock<[String]>([])
        let early = Lock(0)
        try onLoop { loop, finish in
            let start = MonotonicTime.now
            func timer(_ name: String, _ delay: Duration) -> LoopTimer {
                let timer = LoopTimer {
                    if MonotonicTime.now - start < delay { early.withLock { $0 += 1 } }
                    fired.withLock { $0.append(name) }
                    if name == "last" { finish() }
                }
                loop.schedule(timer, after: delay)
                return timer
            }
            _ = timer("second", .milliseconds(12))
            _ = timer("first", .milliseconds(5))
            let cancelled = timer("cancelled", .milliseconds(8))
            let moved = timer("moved", .milliseconds(1))
            loop.schedule(moved, after: .milliseconds(16))
            loop.cancel(cancelled)
            _ = timer("last", .milliseconds(25))
        }
        #expect(fired.withLock { $0 } == ["first", "second", "moved", "last"])
        #expect(early.withLock { $0 } == 0)
    }

    @Test("a timer cancelled by another one of the same instant does not fire")
    func cancelInTurn() throws {
        let fired = Lock<[String]>([])
        try onLoop { loop, finish in
            let pair = Pair()
            pair.a = LoopTimer {
                fired.withLock { $0.append("a") }
                loop.cancel(pair.b!)
            }
            pair.b = LoopTimer {
                fired.withLock { $0.append("b") }
                loop.cancel(pair.a!)
            }
            let deadline: Duration = .milliseconds(10)
            loop.schedule(pair.a!, after: deadline)
            loop.schedule(pair.b!, after: deadline)
            // Sleeping here makes both due in one turn.
            let until = MonotonicTime.now + .milliseconds(15)
            while MonotonicTime.now < until {}
            let end = LoopTimer { finish() }
            loop.schedule(end, after: .milliseconds(20))
        }
        #expect(fired.withLock { $0 }.count == 1)
    }

    @Test("a readable socket calls its handler until it is read, and never after deregistering")
    func readiness() throws {
        let calls = Lock(0)
        try onLoop { loop, finish in
            var pair: [CInt] = [0, 0]
            guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0 else {
                Issue.record("socketpair: \(Errno.current)")
                return finish()
            }
            let handler = ReadOne(loop: loop, descriptor: pair[0]) { byte in
                calls.withLock { $0 += 1 }
                if byte == 3 { finish() }
            }
            do {
                handler.registration = try loop.register(pair[0], for: .readable, handler: handler)
            } catch { Issue.record("register: \(error)") }
            let bytes: [UInt8] = [1, 2, 3, 4, 5]
            _ = unsafe bytes.withUnsafeBytes { unsafe write(pair[1], $0.baseAddress, $0.count) }
        }
        #expect(calls.withLock { $0 } == 3)
    }

    @Test("work for the end of a turn runs once, after the mail of that turn")
    func endOfTurn() throws {
        let order = Lock<[String]>([])
        try onLoop { loop, finish in
            let work = AtEnd {
                order.withLock { $0.append("end") }
                finish()
            }
            loop.atEndOfTurn(work)
            order.withLock { $0.append("mail") }
        }
        #expect(order.withLock { $0 } == ["mail", "end"])
    }

    @Test("a value bound to a loop traps on any other thread")
    func boundValue() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop(name: "bound")
            loop.start()
            let bound = LoopBound(1, on: loop)
            _ = bound.value
        }
    }
}

private final class Pair {
    var a: LoopTimer?
    var b: LoopTimer?
}

private final class AtEnd: EndOfTurnWork {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
    func runAtEndOfTurn() { body() }
}

/// Reads one byte a call; deregisters itself after the third.
private final class ReadOne: ReadinessHandler {
    let loop: EventLoop
    let descriptor: CInt
    let seen: (UInt8) -> Void
    var registration: Registration?

    init(loop: EventLoop, descriptor: CInt, seen: @escaping (UInt8) -> Void) {
        self.loop = loop
        self.descriptor = descriptor
        self.seen = seen
    }

    func descriptorIsReady(_ readiness: Readiness) {
        var byte: UInt8 = 0
        guard unsafe read(descriptor, &byte, 1) == 1 else { return }
        if byte == 3, let registration { loop.deregister(registration, descriptor: descriptor) }
        seen(byte)
    }
}

/// Lets a test wait for one thing that another thread does.
private final class OneShot: Sendable {
    private let signalled = Lock(false)

    func signal() { signalled.withLock { $0 = true } }

    func wait(seconds: Int) -> Bool {
        let deadline = MonotonicTime.now + .seconds(seconds)
        while !signalled.withLock({ $0 }) {
            guard MonotonicTime.now < deadline else { return false }
            sched_yield()
        }
        return true
    }
}

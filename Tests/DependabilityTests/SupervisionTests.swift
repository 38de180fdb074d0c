// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import Observability
import PosixIO
import Testing

@Suite("Supervision")
struct SupervisionTests {
    private var supervision = Supervision()
    private var now = MonotonicTime(nanoseconds: 1_000_000_000)
    private var random = FixedRandom()

    private mutating func fail() -> Duration? {
        supervision.failed("it broke", at: now, using: &random)
    }

    /// Fails, waits and starts again.
    private mutating func round() {
        guard let pause = fail() else { return }
        now = now + pause
        supervision.start()
        supervision.isUp()
    }

    @Test("what fails is restarted, each time after a longer pause")
    mutating func restarts() {
        supervision.start()
        #expect(supervision.phase == .starting)
        supervision.isUp()
        #expect(supervision.phase == .running)
        let bounds: [Int64] = [400, 800, 1600]
        for bound in bounds {
            let pause = fail()
            #expect(supervision.phase == .restarting)
            #expect(
                pause.map { $0 >= .milliseconds(200) && $0 <= .milliseconds(bound) } == true,
                "\(String(describing: pause))")
            supervision.start()
            supervision.isUp()
        }
        #expect(supervision.restarts == 3)
        #expect(supervision.reason == "it broke")
    }

    @Test("one failure more than it may have in a window is one for good, until it is up again")
    mutating func givesUp() {
        supervision.start()
        for _ in 0..<3 { round() }
        #expect(supervision.phase == .running)
        var pause = fail()
        #expect(pause == .seconds(60))
        #expect(supervision.phase == .failed)
        supervision.start()
        #expect(supervision.phase == .failed, "a try is no recovery")
        pause = fail()
        #expect(pause == .seconds(60))
        #expect(supervision.phase == .failed)
        now = now + .seconds(61)
        supervision.start()
        supervision.isUp()
        #expect(supervision.phase == .running)
        round()
        #expect(supervision.phase == .running, "it may be restarted again")
    }

    @Test("failures spread over more than a window are restarted for ever")
    mutating func spread() {
        supervision.start()
        for _ in 0..<20 {
            round()
            now = now + .seconds(21)
        }
        #expect(supervision.phase == .running)
        #expect(supervision.restarts == 20)
    }

    @Test("what was stopped stays so")
    mutating func stopped() {
        supervision.start()
        supervision.stop()
        let pause = fail()
        #expect(pause == nil)
        supervision.isUp()
        #expect(supervision.phase == .stopped)
    }

    @Test("what cannot be restarted has failed at once, and is up again when it says so")
    func watched() {
        let registry = MetricsRegistry()
        let supervisor = Supervisor(.init(), in: registry, log: Logger("test", lowest: .error))
        let component = supervisor.supervise("loop", restarts: false)
        component.start()
        component.isUp()
        _ = component.failed("stuck")
        #expect(supervisor.statuses.map(\.phase) == [.failed])
        #expect(registry.render().contains(#"phase{component="loop",phase="failed"} 1"#))
        component.isUp()
        #expect(supervisor.statuses.map(\.phase) == [.running])
        #expect(registry.render().contains(#"failures_total{component="loop"} 1"#))
    }

    @Test("a loop is stuck after some ticks without an answer, and is asked once meanwhile")
    func loopWatch() {
        var watch = LoopWatch(ticksMax: 3)
        var asked = 0
        for _ in 0..<5 {
            let tick = watch.tick()
            if tick.asks { asked += 1 }
            #expect(tick.change == nil)
            let change = watch.answered()
            #expect(change == nil)
        }
        #expect(asked == 5)
        let changes = (0..<6).map { _ in watch.tick() }
        #expect(changes.map(\.asks) == [true, false, false, false, false, false])
        #expect(changes.map(\.change) == [nil, nil, nil, .stuck, nil, nil])
        let change = watch.answered()
        #expect(change == .turnsAgain)
        let next = watch.tick()
        #expect(next.asks)
    }
}

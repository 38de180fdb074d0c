// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO
import Testing

@Suite("Logger and metrics")
struct ObservabilityTests {
    private func logged(_ format: Logger.Format, _ body: (Logger) -> Void) -> String {
        let lines = Lock("")
        let logger = Logger("test", format: format) { bytes in
            lines.withLock { $0 += String(decoding: bytes, as: UTF8.self) }
        }
        body(logger)
        return lines.withLock { $0 }
    }

    @Test("what a peer sends cannot forge a log line")
    func noForgedLines() {
        let text = logged(.text) { $0.warning("odd", LogField("value", "a\nerror fake: x=\"1\"")) }
        #expect(text.filter { $0 == "\n" }.count == 1)
        #expect(text.hasSuffix("warning test: odd value=\"a\\nerror fake: x=\\\"1\\\"\"\n"))
    }

    @Test("a JSON line is one object with the fields as text")
    func jsonLines() {
        let text = logged(.json) { $0.info("up", LogField("port", 80), LogField("q", "\"\u{1}")) }
        #expect(text.hasSuffix("\"message\":\"up\",\"port\":\"80\",\"q\":\"\\\"\\u0001\"}\n"))
    }

    @Test("levels below the lowest are not written")
    func levels() {
        #expect(logged(.text) { $0.debug("hidden") } == "")
    }

    @Test("metrics render in Prometheus' text format, escaped")
    func prometheus() {
        let registry = MetricsRegistry()
        registry.counter("rivulet_events_total", "Events.", [("topic", "a\"b\n")]).add(3)
        registry.counter("rivulet_events_total", "Events.", [("topic", "a\"b\n")]).add(1)
        registry.gauge("rivulet_connections", "Connections.").set(7)
        registry.histogram("rivulet_append_seconds", "Appends.").record(.microseconds(65))
        let text = registry.render()
        #expect(text.contains("# TYPE rivulet_events_total counter\n"))
        #expect(text.contains("rivulet_events_total{topic=\"a\\\"b\\n\"} 4\n"))
        #expect(text.contains("rivulet_connections 7\n"))
        #expect(text.contains("rivulet_append_seconds_bucket{le=\"6.4e-05\"} 0\n"))
        #expect(text.contains("rivulet_append_seconds_bucket{le=\"0.000128\"} 1\n"))
        #expect(text.contains("rivulet_append_seconds_bucket{le=\"+Inf\"} 1\n"))
        #expect(text.contains("rivulet_append_seconds_count 1\n"))
    }
}

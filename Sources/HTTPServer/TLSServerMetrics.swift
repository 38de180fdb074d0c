// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability
package import TLSEngine

/// What the TLS listeners of a node count, together.
///
/// View: node. Threads: any.
package final class TLSServerMetrics: Sendable {
    /// The reason of a handshake that ran out of time.
    static let timeout = "timeout"

    /// Connections whose handshake is not over.
    let pending: Gauge
    private let kernelSends: Counter
    private let kernelReceives: Counter
    private let full: [TLSVersion: Counter]
    private let resumed: [TLSVersion: Counter]
    private let failures: [String: Counter]

    /// Why a handshake fails; what is wrong with files is found before there is a listener.
    private static let reasons: [String] =
        [timeout]
        + TLSError.Code.allCases.filter {
            switch $0 {
            case .certificateUnreadable, .keyUnreadable, .keyMismatch, .authorityUnreadable: false
            default: true
            }
        }.map(\.rawValue)

    /// - Parameter server: Whose certificate's expiry is shown, whichever is current then.
    package init(_ registry: MetricsRegistry, server: TLSServer) {
        func handshakes(resumed: String) -> [TLSVersion: Counter] {
            Dictionary(
                TLSVersion.allCases.map { version in
                    let labels = [("version", version.rawValue), ("resumed", resumed)]
                    return (
                        version,
                        registry.counter(
                            "rivulet_tls_handshakes_total", "TLS handshakes that succeeded.", labels
                        )
                    )
                }, uniquingKeysWith: { first, _ in first })
        }
        full = handshakes(resumed: "no")
        resumed = handshakes(resumed: "yes")
        failures = Dictionary(
            Self.reasons.map { reason in
                (
                    reason,
                    registry.counter(
                        "rivulet_tls_handshake_failures_total", "TLS handshakes that failed.",
                        [("reason", reason)])
                )
            }, uniquingKeysWith: { first, _ in first })
        pending = registry.gauge(
            "rivulet_tls_handshakes_pending", "Connections whose TLS handshake is not over.")
        func offloads(_ direction: String) -> Counter {
            registry.counter(
                "rivulet_tls_kernel_offloads_total",
                "TLS connections whose records the kernel handles (kTLS).",
                [("direction", direction)])
        }
        kernelSends = offloads("send")
        kernelReceives = offloads("receive")
        registry.gauge(
            "rivulet_tls_certificate_expiry_seconds",
            "Seconds until the server's certificate expires; negative once it has.",
            reading: { Double(server.context.certificate.secondsLeft) })
    }

    func count(_ agreement: TLSSession.Agreement) {
        (agreement.isResumed ? resumed : full)[agreement.version]?.add()
        if agreement.kernelSends { kernelSends.add() }
        if agreement.kernelReceives { kernelReceives.add() }
    }

    func countFailure(_ reason: String) { failures[reason]?.add() }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTPServer
import NodeConfiguration
import Observability
import TLSEngine

/// The node's certificate and what its TLS listeners share.
///
/// View: node. Threads: any; one reload at a time.
final class NodeTLS: Sendable {
    let encryption: HTTPListener.Encryption
    private let server: TLSServer
    private let log: Logger
    private let reloads: Counter
    private let failedReloads: Counter

    /// A certificate that ends within this is worth a warning: two weeks, by when a renewal that
    /// runs by itself should have run.
    private static let expiryWarningSeconds: Int64 = 14 * 86_400

    /// - Parameter protocols: What its listeners speak, the preferred one first.
    /// - Returns: `nil` where the section names no address for TLS.
    init?(
        _ section: ServerSection, protocols: [String], _ registry: MetricsRegistry, _ log: Logger
    ) throws(TLSError) {
        guard !section.tlsListen.isEmpty else { return nil }
        var settings = TLSServerSettings(
            certificateFile: section.tlsCertificate ?? "", keyFile: section.tlsKey ?? "")
        settings.clientAuthorityFile = section.tlsClientAuthority
        settings.clientCertificates =
            switch section.tlsClientCertificates {
            case .off: .off
            case .optional: .optional
            case .required: .required
            }
        settings.minimumVersion = section.tlsMinimumVersion == .v13 ? .v13 : .v12
        settings.applicationProtocols = protocols
        server = try TLSServer(settings)
        encryption = HTTPListener.Encryption(server, TLSServerMetrics(registry, server: server))
        func counter(_ outcome: String) -> Counter {
            registry.counter(
                "rivulet_tls_reloads_total", "Times the certificate was read again.",
                [("outcome", outcome)])
        }
        reloads = counter("done")
        failedReloads = counter("failed")
        self.log = log
        tellCertificate("certificate")
    }

    /// Reads the files again, for connections to come; where that fails everything stays.
    func reload() {
        do throws(TLSError) {
            try server.reload()
            reloads.add()
            tellCertificate("certificate reloaded")
        } catch {
            failedReloads.add()
            log.error(
                "the certificate was not reloaded; the previous one stays",
                LogField("reason", error))
        }
    }

    private func tellCertificate(_ message: String) {
        let certificate = server.context.certificate
        let fields = [
            LogField("subject", certificate.subject), LogField("expires", certificate.expiryText),
        ]
        guard certificate.secondsLeft > Self.expiryWarningSeconds else {
            let state = certificate.secondsLeft > 0 ? "expires soon" : "has expired"
            return log.warning("\(message); it \(state)", fields[0], fields[1])
        }
        log.notice(message, fields[0], fields[1])
    }
}

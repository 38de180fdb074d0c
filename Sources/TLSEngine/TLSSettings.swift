// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// A version of TLS that is good enough to speak (RFC 8996 forbids the older ones).
package enum TLSVersion: String, Sendable, CaseIterable {
    case v12 = "1.2"
    case v13 = "1.3"
}

/// What a server asks of the certificates of its clients.
package enum ClientCertificates: String, Sendable, CaseIterable {
    /// None is asked for.
    case off
    /// One is asked for; whoever gives one must give a good one.
    case optional
    /// Who gives none is refused.
    case required
}

/// What a TLS server shows and what it accepts. Paths name PEM files.
package struct TLSServerSettings: Sendable, Equatable {
    /// The server's certificate, followed by the intermediate ones.
    package var certificateFile: String
    package var keyFile: String
    /// The authorities that sign client certificates. Needed unless ``clientCertificates`` is off.
    package var clientAuthorityFile: String?
    package var clientCertificates = ClientCertificates.off
    package var minimumVersion = TLSVersion.v12
    /// Application protocols (ALPN, RFC 7301), the preferred one first: `h2`, `http/1.1`.
    package var applicationProtocols = ["http/1.1", "http/1.0"]

    package init(certificateFile: String, keyFile: String) {
        self.certificateFile = certificateFile
        self.keyFile = keyFile
    }
}

/// Whom a TLS client trusts. Paths name PEM files.
package struct TLSClientSettings: Sendable, Equatable {
    /// The authorities that may have signed the server's certificate; `nil` for the system's.
    package var authorityFile: String?
    /// False takes any certificate of any host: no protection against who sits in between.
    package var verifiesServer = true

    package init() {}
}

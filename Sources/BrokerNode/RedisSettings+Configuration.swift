// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import NodeConfiguration
package import RedisClient
import TLSEngine

extension RedisSettings {
    /// How the configuration says that Redis is reached.
    ///
    /// - Parameter clientName: What `CLIENT LIST` shows.
    package init(_ section: RedisSection, clientName: String) throws(RedisError) {
        self.init(url: try RedisURL(section.url))
        if let username = section.username { self.username = username }
        if let password = section.password { self.password = password.reveal() }
        self.clientName = clientName
        commandTimeout = section.timeout
        connectTimeout = section.timeout
        if usesTLS { tls = try Self.trust(section) }
    }

    private static func trust(_ section: RedisSection) throws(RedisError) -> TLSClientContext {
        var trust = TLSClientSettings()
        trust.authorityFile = section.tlsAuthority
        trust.verifiesServer = section.tlsVerify
        do throws(TLSError) {
            return try TLSClientContext(trust)
        } catch { throw RedisError(.settingInvalid, error.detail) }
    }
}

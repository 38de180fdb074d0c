// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// Whom a client trusts, from which its sessions are made.
///
/// View: node. Threads: any; immutable.
package final class TLSClientContext: Sendable {
    package let settings: TLSClientSettings
    let handle: ContextHandle

    /// Reads the authorities that `settings` names.
    package init(_ settings: TLSClientSettings) throws(TLSError) {
        let handle = try ContextHandle.make(.client, minimumVersion: .v12)
        if settings.verifiesServer {
            try handle.trust(authorityFile: settings.authorityFile)
            unsafe SSL_CTX_set_verify(handle.raw, SSL_VERIFY_PEER, nil)
        } else {
            unsafe SSL_CTX_set_verify(handle.raw, SSL_VERIFY_NONE, nil)
        }
        self.settings = settings
        self.handle = handle
    }
}

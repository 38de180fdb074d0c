// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL

// OpenSSL has some hundred reasons; operators need to tell these apart.
extension TLSError {
    /// - Parameter verification: What the check of the peer's certificate said.
    init(_ entry: ErrorQueue.Entry?, verification: String) {
        guard let entry else {
            self.init(.protocolViolated, "the session failed for no reason given")
            return
        }
        guard !entry.isSystem else {
            self.init(.socketFailed, entry.text, systemCode: entry.reason)
            return
        }
        guard entry.library == ERR_LIB_SSL else {
            self.init(.protocolViolated, entry.text)
            return
        }
        switch entry.reason {
        case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST: self.init(.plainHTTP, entry.text)
        case SSL_R_WRONG_VERSION_NUMBER, SSL_R_PACKET_LENGTH_TOO_LONG, SSL_R_RECORD_LENGTH_MISMATCH:
            self.init(.notTLS, entry.text)
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_VERSION_TOO_HIGH,
            SSL_R_NO_PROTOCOLS_AVAILABLE:
            self.init(.protocolVersion, entry.text)
        case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SHARED_GROUPS,
            SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
            self.init(.noSharedCipher, entry.text)
        case SSL_R_NO_APPLICATION_PROTOCOL: self.init(.noApplicationProtocol, entry.text)
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: self.init(.certificateMissing, entry.text)
        case SSL_R_CERTIFICATE_VERIFY_FAILED:
            self.init(.certificateRejected, "\(entry.text): \(verification)")
        // OpenSSL gives an alert of the peer the reason 1000 and its number (ssl.h).
        case SSL_AD_REASON_OFFSET...(SSL_AD_REASON_OFFSET + 255):
            self.init(.peerAlert, entry.text)
        default: self.init(.protocolViolated, entry.text)
        }
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL
import Glibc
import PosixIO

/// What operators want to know of a certificate.
package struct TLSCertificate: Sendable, Equatable {
    /// The name it is for, as OpenSSL writes it: `CN = node-1`.
    package let subject: String
    /// The end of its validity, in seconds since 1970-01-01 UTC.
    package let expiry: Int64

    /// Seconds until it expires; negative once it has.
    package var secondsLeft: Int64 { expiry - Int64(WallClock.milliseconds / 1000) }

    /// The end of validity as RFC 3339.
    package var expiryText: String {
        WallClock.text(milliseconds: UInt64(max(0, expiry)) * 1000)
    }

    /// Reads the certificate that `context` shows.
    init?(of context: borrowing ContextHandle) {
        guard let certificate = unsafe SSL_CTX_get0_certificate(context.raw),
            let end = unsafe X509_get0_notAfter(certificate)
        else { return nil }
        var parts = unsafe tm()
        guard unsafe ASN1_TIME_to_tm(end, &parts) == 1 else { return nil }
        expiry = Int64(unsafe timegm(&parts))
        guard let name = unsafe X509_get_subject_name(certificate),
            let memory = unsafe BIO_new(BIO_s_mem())
        else { return nil }
        defer { unsafe BIO_free(memory) }
        guard unsafe X509_NAME_print_ex(memory, name, 0, copenssl_name_format()) >= 0 else {
            return nil
        }
        // A name is short; what is longer than this is cut.
        var text = [UInt8](repeating: 0, count: 512)
        let count = unsafe BIO_read(memory, &text, CInt(text.count))
        subject = String(decoding: text.prefix(max(0, Int(count))), as: UTF8.self)
    }
}

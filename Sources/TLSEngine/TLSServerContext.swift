// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL
import PosixIO

/// A server's certificate, key and rules, from which its sessions are made.
///
/// View: node. Threads: any; immutable. Each session keeps the context that it began with.
package final class TLSServerContext: Sendable {
    package let settings: TLSServerSettings
    /// The certificate that clients see.
    package let certificate: TLSCertificate
    let handle: ContextHandle
    /// Lent to OpenSSL for the ALPN callback: sessions keep this object alive.
    private let offer: ProtocolOffer

    /// How long a session can be resumed, in seconds. The ticket keys are the context's own.
    private static let ticketLifetime = 2 * 60 * 60

    /// Reads the files that `settings` names.
    package init(_ settings: TLSServerSettings) throws(TLSError) {
        let handle = try ContextHandle.make(.server, minimumVersion: settings.minimumVersion)
        unsafe SSL_CTX_set_options(handle.raw, copenssl_server_options())
        try handle.load(certificateFile: settings.certificateFile, keyFile: settings.keyFile)
        guard let certificate = TLSCertificate(of: handle) else {
            throw TLSError(
                .certificateUnreadable,
                "certificate file \(settings.certificateFile): has no readable validity")
        }
        // Tickets (RFC 5077, RFC 8446 section 4.6.1) hold the whole state, so none is kept here.
        unsafe copenssl_disable_session_cache(handle.raw)
        unsafe SSL_CTX_set_timeout(handle.raw, Self.ticketLifetime)
        // Without a name for this use of it OpenSSL refuses to resume where it asks for client
        // certificates.
        let name = Array("rivulet".utf8)
        unsafe SSL_CTX_set_session_id_context(handle.raw, name, CUnsignedInt(name.count))
        try Self.askForCertificates(handle, settings)
        offer = ProtocolOffer(settings.applicationProtocols)
        unsafe SSL_CTX_set_alpn_select_cb(
            handle.raw, ProtocolOffer.select, Unmanaged.passUnretained(offer).toOpaque())
        self.settings = settings
        self.certificate = certificate
        self.handle = handle
    }

    private static func askForCertificates(
        _ handle: borrowing ContextHandle, _ settings: TLSServerSettings
    ) throws(TLSError) {
        guard settings.clientCertificates != .off else { return }
        guard let file = settings.clientAuthorityFile else {
            throw TLSError(
                .authorityUnreadable,
                "client certificates are \(settings.clientCertificates.rawValue) and no file "
                    + "names the authority that signs them")
        }
        try handle.trust(authorityFile: file)
        // Named to clients, so that they find out which of their certificates is meant. The
        // context takes the list over.
        if let names = unsafe SSL_load_client_CA_file(file) {
            unsafe SSL_CTX_set_client_CA_list(handle.raw, names)
        }
        var mode = SSL_VERIFY_PEER
        if settings.clientCertificates == .required { mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT }
        unsafe SSL_CTX_set_verify(handle.raw, mode, nil)
    }
}

/// The application protocols of a server, and the choice among those of a client.
private final class ProtocolOffer: Sendable {
    private let names: [[UInt8]]

    init(_ names: [String]) { self.names = names.map { Array($0.utf8) } }

    /// Called by OpenSSL inside the handshake, on the thread that drives it. `argument` is an
    /// unretained ``ProtocolOffer`` that the session's context keeps; the answer points into the
    /// client's list, which outlives the call.
    static let select: SSL_CTX_alpn_select_cb_func = {
        _, chosen, chosenCount, list, count, argument in
        guard let argument = unsafe argument, let list = unsafe list else {
            return SSL_TLSEXT_ERR_NOACK
        }
        let offer = unsafe Unmanaged<ProtocolOffer>.fromOpaque(argument).takeUnretainedValue()
        let offered = unsafe UnsafeBufferPointer(start: list, count: Int(count))
        guard let range = unsafe offer.choose(from: offered) else {
            // RFC 7301, section 3.2: the alert no_application_protocol.
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }
        unsafe chosen?.pointee = list + range.lowerBound
        unsafe chosenCount?.pointee = UInt8(range.count)
        return SSL_TLSEXT_ERR_OK
    }

    /// Where the server's favourite of the names in `list` lies; each has its length before it.
    private func choose(from list: UnsafeBufferPointer<UInt8>) -> Range<Int>? {
        for name in names {
            var start = 0
            while start < list.count {
                let end = unsafe start + 1 + Int(list[start])
                guard end <= list.count else { return nil }
                if unsafe list[start + 1..<end].elementsEqual(name) { return start + 1..<end }
                start = end
            }
        }
        return nil
    }
}

/// The context of a server's next session, which ``reload()`` replaces.
///
/// View: node. Threads: any. Sessions that have begun go on with the context they began with.
package final class TLSServer: Sendable {
    package let settings: TLSServerSettings
    private let current: Lock<TLSServerContext>

    package init(_ settings: TLSServerSettings) throws(TLSError) {
        self.settings = settings
        current = Lock(try TLSServerContext(settings))
    }

    package var context: TLSServerContext { current.withLock { $0 } }

    /// Reads the files again. Where that fails everything stays as it was.
    package func reload() throws(TLSError) {
        let next = try TLSServerContext(settings)
        current.withLock { $0 = next }
    }
}

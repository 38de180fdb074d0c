// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import COpenSSL
import Glibc
import PosixIO

/// An `SSL_CTX` with one owner. Sessions made from it keep OpenSSL's part of it alive themselves.
///
/// Threads: set up by one; then any number may make sessions from it, since OpenSSL counts its
/// references atomically and reads the rest.
@safe
struct ContextHandle: ~Copyable, @unchecked Sendable {
    // @unchecked: nothing changes the context once it is set up.
    let raw: OpaquePointer

    enum Role { case server, client }

    /// What holds for every context, whatever its role.
    ///
    /// Sessions need partial writes and a buffer that may move because what waits to be sent is
    /// kept in a copy; buffers are given back while a session is idle, which is 32 KiB of each.
    /// Without AUTO_RETRY a read returns after each message that is no data, so that a peer that
    /// sends nothing else does not hold the loop.
    static func make(_ role: Role, minimumVersion: TLSVersion) throws(TLSError) -> ContextHandle {
        prepareProcess
        ErrorQueue.clear()
        let method = unsafe role == .server ? TLS_server_method() : TLS_client_method()
        guard let raw = unsafe SSL_CTX_new(method) else {
            throw TLSError(.engineFailed, "SSL_CTX_new: \(cause)")
        }
        let handle = unsafe ContextHandle(adopting: raw)
        unsafe copenssl_set_mode(
            raw,
            Int(SSL_MODE_ENABLE_PARTIAL_WRITE) | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
                | Int(SSL_MODE_RELEASE_BUFFERS), Int(SSL_MODE_AUTO_RETRY))
        unsafe SSL_CTX_set_options(raw, copenssl_common_options())
        let version = minimumVersion == .v12 ? TLS1_2_VERSION : TLS1_3_VERSION
        guard unsafe copenssl_set_min_version(raw, version) == 1,
            // Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
            unsafe SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1
        else { throw TLSError(.engineFailed, "protocol versions and ciphers: \(cause)") }
        return handle
    }

    private init(adopting raw: OpaquePointer) { unsafe self.raw = raw }

    deinit { unsafe SSL_CTX_free(raw) }

    /// Reads a certificate chain and its key.
    func load(certificateFile: String, keyFile: String) throws(TLSError) {
        try Self.requireReadable(certificateFile, .certificateUnreadable, "certificate file")
        try Self.requireReadable(keyFile, .keyUnreadable, "key file")
        ErrorQueue.clear()
        guard unsafe SSL_CTX_use_certificate_chain_file(raw, certificateFile) == 1 else {
            throw TLSError(
                .certificateUnreadable,
                "certificate file \(certificateFile): \(Self.pemCause("certificate"))")
        }
        // OpenSSL would ask the terminal for the passphrase of an encrypted key.
        unsafe SSL_CTX_set_default_passwd_cb(raw) { _, _, _, _ in -1 }
        let loaded = unsafe SSL_CTX_use_PrivateKey_file(raw, keyFile, SSL_FILETYPE_PEM)
        if unsafe loaded != 1 || SSL_CTX_check_private_key(raw) != 1 {
            throw Self.keyError(keyFile, certificateFile)
        }
    }

    private static func keyError(_ keyFile: String, _ certificateFile: String) -> TLSError {
        let entry = ErrorQueue.takeCause()
        let isMismatch =
            entry.map { entry in
                (entry.library == ERR_LIB_X509
                    && (entry.reason == X509_R_KEY_VALUES_MISMATCH
                        || entry.reason == X509_R_KEY_TYPE_MISMATCH))
                    || entry.isSSL(SSL_R_NO_CERTIFICATE_ASSIGNED)
            } ?? false
        if isMismatch {
            return TLSError(
                .keyMismatch,
                "key file \(keyFile) holds another key than that of \(certificateFile)")
        }
        return TLSError(
            .keyUnreadable, "key file \(keyFile): \(Self.words(entry, "private key"))")
    }

    /// Trusts the authorities of `file`, or the system's.
    func trust(authorityFile file: String?) throws(TLSError) {
        guard let file else {
            guard unsafe SSL_CTX_set_default_verify_paths(raw) == 1 else {
                throw TLSError(.authorityUnreadable, "the system's authorities: \(Self.cause)")
            }
            return
        }
        try Self.requireReadable(file, .authorityUnreadable, "authority file")
        ErrorQueue.clear()
        guard unsafe SSL_CTX_load_verify_file(raw, file) == 1 else {
            throw TLSError(
                .authorityUnreadable, "authority file \(file): \(Self.pemCause("certificate"))")
        }
    }

    // MARK: - Words for errors

    private static func requireReadable(
        _ path: String, _ code: TLSError.Code, _ what: String
    ) throws(TLSError) {
        do throws(Errno) {
            _ = try OwnedDescriptor.open(path, flags: O_RDONLY)
        } catch { throw TLSError(code, "\(what) \(path): \(error)") }
    }

    static var cause: String { ErrorQueue.takeCause()?.text ?? "for no reason given" }

    private static func pemCause(_ what: String) -> String { words(ErrorQueue.takeCause(), what) }

    private static func words(_ entry: ErrorQueue.Entry?, _ what: String) -> String {
        guard let entry else { return "holds no PEM \(what)" }
        let isPEM = entry.library == ERR_LIB_PEM
        if isPEM, entry.reason == PEM_R_NO_START_LINE { return "holds no PEM \(what)" }
        if copenssl_is_cancelled(entry.reason) != 0
            || isPEM && [PEM_R_BAD_PASSWORD_READ, PEM_R_BAD_DECRYPT].contains(entry.reason)
        {
            return "is protected by a passphrase; give a key without one"
        }
        if entry.library == ERR_LIB_OSSL_DECODER { return "holds no PEM \(what)" }
        return "\(entry.text); expected a PEM \(what)"
    }

    /// Once for the process. OpenSSL writes to sockets with write(2), which raises SIGPIPE where
    /// the peer has gone; a program that set its own handler keeps it. OpenSSL must not tear itself
    /// down at exit either, because loops may still be running then.
    private static let prepareProcess: Void = {
        _ = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
        var current = sigaction()
        guard unsafe sigaction(SIGPIPE, nil, &current) == 0 else { return }
        if unsafe current.__sigaction_handler.sa_handler == nil { signal(SIGPIPE, SIG_IGN) }
    }()
}

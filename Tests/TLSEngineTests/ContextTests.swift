// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import PosixIO
import TLSEngine
import Testing

@Suite("TLS contexts")
struct ContextTests {
    private func failure(_ settings: TLSServerSettings) -> TLSError? {
        do throws(TLSError) {
            _ = try TLSServerContext(settings)
            return nil
        } catch { return error }
    }

    @Test("files that cannot be used are named, with the reason")
    func badFiles() throws {
        let authority = try authority.get()
        let identity = try authority.issue("files")
        let other = try authority.issue("files-other")
        let otherKind = try authority.issue("files-rsa", key: TestAuthority.rsaKey)
        let empty = try authority.directory.write("nothing here\n", to: "empty.pem")
        var settings = TLSServerSettings(
            certificateFile: identity.certificateFile, keyFile: identity.keyFile)
        #expect(failure(settings) == nil)

        settings.certificateFile = "/nowhere/cert.pem"
        var error = try #require(failure(settings))
        #expect(error.code == .certificateUnreadable)
        #expect(error.detail == "certificate file /nowhere/cert.pem: No such file or directory")

        settings.certificateFile = empty
        error = try #require(failure(settings))
        #expect(error.code == .certificateUnreadable)
        #expect(error.detail == "certificate file \(empty): holds no PEM certificate")

        settings.certificateFile = identity.certificateFile
        settings.keyFile = empty
        error = try #require(failure(settings))
        #expect(error.code == .keyUnreadable)
        #expect(error.detail == "key file \(empty): holds no PEM private key")

        for key in [other.keyFile, otherKind.keyFile] {
            settings.keyFile = key
            error = try #require(failure(settings))
            #expect(error.code == .keyMismatch)
            #expect(error.detail.contains(key) && error.detail.contains(identity.certificateFile))
        }
    }

    @Test("a key behind a passphrase is refused and nobody is asked for it")
    func protectedKey() throws {
        let authority = try authority.get()
        let identity = try authority.issue("protected")
        let locked = authority.directory.path + "/locked.key"
        let run = ChildProcess.run(
            [
                "openssl", "ec", "-in", identity.keyFile, "-aes256", "-passout", "pass:secret",
                "-out", locked,
            ], in: authority.directory)
        #expect(run?.end == .exited(0))
        let error = try #require(
            failure(
                TLSServerSettings(certificateFile: identity.certificateFile, keyFile: locked)))
        #expect(error.code == .keyUnreadable)
        #expect(error.detail.contains("passphrase"))
    }

    @Test("client certificates without the authority that signs them are refused")
    func clientAuthority() throws {
        let identity = try authority.get().issue("asking")
        var settings = TLSServerSettings(
            certificateFile: identity.certificateFile, keyFile: identity.keyFile)
        settings.clientCertificates = .required
        #expect(failure(settings)?.code == .authorityUnreadable)
        settings.clientAuthorityFile = "/nowhere/ca.pem"
        #expect(failure(settings)?.code == .authorityUnreadable)
    }

    @Test("a certificate says whom it is for and when it ends")
    func certificate() throws {
        let identity = try authority.get().issue("subject-\u{e4}")
        let context = try TLSServerContext(
            TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile))
        #expect(context.certificate.subject == "CN = subject-\u{e4}")
        let left = context.certificate.secondsLeft
        #expect(left > 2 * 86_400 - 600 && left <= 2 * 86_400)
    }

    @Test("a server is refused whose name, address or authority is not the expected one")
    func verification() throws {
        let authority = try authority.get()
        let stranger = try TestAuthority()
        let identity = try authority.issue("verified")
        let server = try TLSServerContext(
            TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile))
        func shake(_ host: String, trusting file: String?, verifies: Bool = true) throws
            -> TLSError?
        {
            var settings = TLSClientSettings()
            settings.authorityFile = file
            settings.verifiesServer = verifies
            return try SessionPair(server, settings, host: host).shakeHands()?.client
        }
        #expect(try shake("localhost", trusting: authority.certificateFile) == nil)
        #expect(try shake("127.0.0.1", trusting: authority.certificateFile) == nil)
        let name = try #require(try shake("redis", trusting: authority.certificateFile))
        #expect(name.code == .certificateRejected && name.detail.contains("ostname mismatch"))
        let address = try #require(try shake("127.0.0.2", trusting: authority.certificateFile))
        #expect(address.code == .certificateRejected)
        let unknown = try #require(try shake("localhost", trusting: stranger.certificateFile))
        #expect(unknown.code == .certificateRejected)
        #expect(try shake("localhost", trusting: nil)?.code == .certificateRejected)
        #expect(try shake("redis", trusting: nil, verifies: false) == nil)
    }

    @Test("a reload serves new sessions, keeps old ones, and a failed one changes nothing")
    func reload() throws {
        let authority = try authority.get()
        let identity = try authority.issue("reloaded")
        let server = try TLSServer(
            TLSServerSettings(
                certificateFile: identity.certificateFile, keyFile: identity.keyFile))
        var settings = TLSClientSettings()
        settings.authorityFile = authority.certificateFile
        let before = server.context
        let pair = try SessionPair(before, settings)
        #expect(pair.shakeHands() == nil)

        _ = try authority.directory.write("spoilt", to: "reloaded.pem")
        #expect(throws: TLSError.self) { try server.reload() }
        #expect(server.context === before)

        _ = try authority.issue("reloaded")
        try server.reload()
        #expect(server.context !== before)
        let next = try SessionPair(server.context, settings)
        #expect(next.shakeHands() == nil)

        _ = pair.server.write([1, 2, 3])
        #expect(pair.read(pair.client).bytes == [1, 2, 3])
    }
}

// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// A certificate authority of a test's own, which signs certificates for loopback.
///
/// Threads: any; one call at a time. Its files go with the value. Needs `openssl` in the path.
package final class TestAuthority: Sendable {
    /// The PEM files of one certificate.
    package struct Identity: Sendable {
        package let certificateFile: String
        package let keyFile: String
    }

    package let directory: TemporaryDirectory
    package let own: Identity

    private static let limit: Duration = .seconds(60)

    package init() throws(TestAuthorityError) {
        do throws(Errno) { directory = try TemporaryDirectory("rivulet-authority") } catch {
            throw TestAuthorityError("mkdtemp: \(error)")
        }
        own = try Self.make("authority", in: directory, ["-subj", "/CN=Test authority"])
    }

    /// The file that whoever is to trust this authority is given.
    package var certificateFile: String { own.certificateFile }

    /// Signs a certificate for `localhost` and `127.0.0.1`.
    ///
    /// - Parameters:
    ///   - name: Of the files and of the certificate's subject. The same name replaces the files.
    ///   - key: What `openssl req -newkey` takes.
    package func issue(_ name: String, key: [String] = ecKey) throws(TestAuthorityError) -> Identity
    {
        try Self.make(
            name, in: directory, key: key,
            [
                "-subj", "/CN=\(name)", "-CA", own.certificateFile, "-CAkey", own.keyFile,
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE",
            ])
    }

    package static let ecKey = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    package static let rsaKey = ["rsa:2048"]

    private static func make(
        _ name: String, in directory: TemporaryDirectory, key: [String] = ecKey,
        _ arguments: [String]
    ) throws(TestAuthorityError) -> Identity {
        let path = "\(directory.path)/\(name)"
        let log = "\(name).log"
        let identity = Identity(certificateFile: "\(path).pem", keyFile: "\(path).key")
        let child = ChildProcess(
            ["openssl", "req", "-x509", "-newkey"] + key
                + [
                    "-utf8", "-nodes", "-days", "2", "-keyout", identity.keyFile, "-out",
                    identity.certificateFile,
                ] + arguments, output: "\(directory.path)/\(log)")
        guard child.waitForEnd(within: limit) == .exited(0) else {
            child.kill()
            throw TestAuthorityError("openssl req: \(directory.end(of: log, bytes: 2000))")
        }
        return identity
    }
}

/// Why a certificate for a test could not be had.
package struct TestAuthorityError: Error, Sendable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

extension ChildProcess {
    /// Runs `command` to its end and returns how it ended and the end of what it printed; `nil`
    /// where it did not end within `limit`.
    package static func run(
        _ command: [String], in directory: TemporaryDirectory, within limit: Duration = .seconds(30)
    ) -> (end: End, output: String)? {
        let log = "run-\(UInt64.random(in: 0 ... .max)).log"
        let child = ChildProcess(command, output: "\(directory.path)/\(log)")
        guard let end = child.waitForEnd(within: limit) else {
            child.kill()
            return nil
        }
        return (end, directory.end(of: log, bytes: 65_536))
    }
}

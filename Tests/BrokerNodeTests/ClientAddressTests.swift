// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerNode
import HTTP1Wire
import PosixIO
import Testing

@Suite("Who a client is")
struct ClientAddressTests {
    private func principal(
        _ peer: String, forwarded: [String] = [], trusting: [String] = []
    ) throws -> String {
        var headers = HTTPHeaders()
        for value in forwarded { headers.append("X-Forwarded-For", value) }
        let address = try #require(SocketAddress(numericHost: peer, port: 4711))
        return ClientAddress(trustedProxies: trusting).principal(headers, peer: address)
    }

    @Test("an address, whatever it says of itself")
    func untrusted() throws {
        #expect(try principal("192.0.2.7") == "192.0.2.7")
        #expect(try principal("192.0.2.7", forwarded: ["198.51.100.1"]) == "192.0.2.7")
        #expect(
            try principal("192.0.2.7", forwarded: ["198.51.100.1"], trusting: ["192.0.2.8"])
                == "192.0.2.7")
    }

    @Test(
        "behind proxies that are trusted the last address that none of them is",
        arguments: [
            (["198.51.100.1"], "198.51.100.1"),
            // What stands before was written by the client.
            (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            (["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            (["198.51.100.1 ,\t10.0.0.2"], "198.51.100.1"),
            ([], "10.0.0.1"), ([""], "10.0.0.1"), (["nonsense"], "10.0.0.1"),
            (["198.51.100.1, nonsense"], "10.0.0.1"), (["198.51.100.1:80"], "10.0.0.1"),
            (["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        ])
    func trusted(_ forwarded: [String], _ expected: String) throws {
        let found = try principal(
            "10.0.0.1", forwarded: forwarded, trusting: ["10.0.0.1", "10.0.0.2"])
        #expect(found == expected)
    }

    @Test("a header of nothing but proxies ends somewhere")
    func bounded() throws {
        let all = Array(repeating: "10.0.0.1", count: 10_000).joined(separator: ",")
        #expect(
            try principal("10.0.0.1", forwarded: ["192.0.2.1," + all], trusting: ["10.0.0.1"])
                == "10.0.0.1")
    }

    @Test("a network of IPv6 is one client, and IPv4 inside IPv6 is IPv4")
    func versions() throws {
        #expect(try principal("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64")
        #expect(try principal("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64")
        #expect(try principal("::ffff:192.0.2.7") == "192.0.2.7")
        #expect(
            try principal(
                "::ffff:10.0.0.1", forwarded: ["2001:db8::1"], trusting: ["10.0.0.1"])
                == "2001:db8::/64")
    }
}

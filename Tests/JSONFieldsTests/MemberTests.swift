// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import JSONFields
import Testing

@Suite("JSON members")
struct MemberTests {
    private func read(_ text: String, membersMax: Int = 100) throws
        -> (verdict: JSONEventVerdict, members: [JSONMember], count: Int)
    {
        let reader = try JSONMemberReader(documentBytesMax: 4096, membersMax: membersMax)
        let bytes = Array(text.utf8)
        return reader.read(bytes.span)
    }

    @Test("every scalar is found with its keys, in order; arrays give their elements")
    func scalars() throws {
        let (verdict, members, count) = try read(
            """
            {"type":"subscribe", "f":{"a":["x","\\u00e4\\n"],"b":0.7,"c":[]}, "n":-3,
             "big":18446744073709551615, "ok":true, "no":null, "list":[1,{"q":2},[3]],
             "deep":{"er":{"x":1}}, "":"", "type":"again"}
            """)
        #expect(verdict == .object)
        #expect(
            members == [
                JSONMember(key: "type", value: .text("subscribe")),
                JSONMember(group: "f", key: "a", value: .text("x")),
                JSONMember(group: "f", key: "a", value: .text("ä\n")),
                JSONMember(group: "f", key: "b", value: .number("0.7")),
                JSONMember(group: "f", key: "c", value: .container),
                JSONMember(key: "n", value: .number("-3")),
                JSONMember(key: "big", value: .number("18446744073709551615")),
                JSONMember(key: "ok", value: .bool(true)),
                JSONMember(key: "no", value: .null),
                JSONMember(key: "list", value: .number("1")),
                JSONMember(key: "list", value: .container),
                JSONMember(key: "list", value: .container),
                JSONMember(group: "deep", key: "er", value: .container),
                JSONMember(key: "", value: .text("")),
                JSONMember(key: "type", value: .text("again")),
            ])
        #expect(count == members.count)
    }

    @Test("what is no object, too large or has too many members is said so")
    func refusals() throws {
        #expect(try read("[1]").verdict == .notAnObject)
        #expect(try read("{\"a\":").members == [])
        #expect(try read(String(repeating: " ", count: 5000)).verdict == .tooLarge)
        let many = try read("{\"a\":[1,2,3,4]}", membersMax: 3)
        #expect(many.verdict == .object)
        #expect(many.members == [])
        #expect(many.count == 4)
        #expect(try read("{}").count == 0)
        #expect(throws: JSONFieldsError.self) {
            try JSONMemberReader(documentBytesMax: 0, membersMax: 1)
        }
    }
}

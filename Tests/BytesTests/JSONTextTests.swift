// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Testing

@Suite("JSON text")
struct JSONTextTests {
    @Test("objects and arrays nest, with commas only between")
    func nesting() {
        var json = JSONText()
        json.object {
            $0.field("name", "x")
            $0.field("n", 3)
            $0.array("list") {
                $0.element("a")
                $0.array { $0.element(1) }
                $0.object { _ in }
            }
            $0.array("more", ["b", "c"])
            $0.array("none", [String]())
            $0.object("inner") { $0.field("deep", true) }
            $0.field("last", false)
        }
        #expect(
            json.text == """
                {"name":"x","n":3,"list":["a",[1],{}],"more":["b","c"],"none":[],\
                "inner":{"deep":true},"last":false}
                """
        )
    }

    @Test("numbers are written exactly, and what JSON cannot express becomes null")
    func numbers() {
        var json = JSONText()
        json.array {
            $0.element(Int.min)
            $0.element(UInt64.max)
            $0.element(0.1)
            $0.element(1e300)
            $0.element(Double.infinity)
            $0.element(Double.nan)
            $0.element(Int?.none)
            $0.element(Int64(-7))
        }
        #expect(
            json.text
                == "[-9223372036854775808,18446744073709551615,0.1,1e+300,null,null,null,-7]"
        )
    }

    @Test("text that tries to leave its string stays in it")
    func escapes() {
        var json = JSONText()
        json.object { $0.field("a\"b", "\",\"admin\":true\\\n\r\t\u{0}\u{1f}é\u{7f}") }
        #expect(
            json.text
                == #"{"a\"b":"\",\"admin\":true\\\n\r\t\u0000\u001fé"# + "\u{7f}\"}"
        )
    }

    @Test("JSON that exists already goes in as it is, and nothing goes in as null")
    func raw() {
        var json = JSONText()
        json.object {
            $0.field("event", json: Array(#"{"id": 1}"#.utf8))
            $0.field("none", json: [])
            $0.array("list") { $0.element(json: Array("[]".utf8)) }
        }
        #expect(json.text == #"{"event":{"id": 1},"none":null,"list":[[]]}"#)
    }

    @Test("a document may be a lone value")
    func loneValue() {
        var json = JSONText()
        json.element("a\u{2028}b")
        #expect(json.bytes == Array("\"a\u{2028}b\"".utf8))
    }
}

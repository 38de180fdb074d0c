#include "CSimdJSON.h"

#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <simdjson.h>

using namespace simdjson;

namespace {

// One key of one or more paths. The paths form a tree, so an object is read once for all paths
// that go through it.
struct Node {
    std::string key;
    std::vector<std::unique_ptr<Node>> children;
    // Bit c: column c ends here.
    uint64_t columns = 0;

    Node *child(std::string_view name) {
        for (auto &node : children) {
            if (node->key == name) { return node.get(); }
        }
        children.push_back(std::make_unique<Node>());
        children.back()->key = std::string(name);
        return children.back().get();
    }
};

// Where the values of one event go.
struct Output {
    sj_entry *entries;
    uint32_t *counts;
    uint64_t left_out;

    void add(uint64_t columns, const sj_entry &entry) noexcept {
        for (uint64_t rest = columns; rest != 0; rest &= rest - 1) {
            const int column = __builtin_ctzll(rest);
            uint32_t &count = counts[column];
            if (count == SJ_ENTRIES_PER_PATH) {
                left_out++;
                continue;
            }
            entries[size_t(column) * SJ_ENTRIES_PER_PATH + count] = entry;
            count++;
        }
    }
};

// Makes an entry of a scalar; false for an object or an array.
bool scalar_entry(const dom::element &value, sj_entry &entry) noexcept {
    entry = sj_entry{0, nullptr, 0, SJ_NULL};
    switch (value.type()) {
    case dom::element_type::NULL_VALUE:
        return true;
    case dom::element_type::BOOL: {
        bool flag = false;
        if (value.get_bool().get(flag)) { return false; }
        entry.kind = SJ_BOOL;
        entry.bits = flag ? 1 : 0;
        return true;
    }
    case dom::element_type::INT64: {
        int64_t number = 0;
        if (value.get_int64().get(number)) { return false; }
        entry.kind = SJ_INT64;
        entry.bits = uint64_t(number);
        return true;
    }
    case dom::element_type::UINT64: {
        uint64_t number = 0;
        if (value.get_uint64().get(number)) { return false; }
        entry.kind = SJ_UINT64;
        entry.bits = number;
        return true;
    }
    case dom::element_type::DOUBLE: {
        double number = 0;
        if (value.get_double().get(number)) { return false; }
        entry.kind = SJ_DOUBLE;
        std::memcpy(&entry.bits, &number, sizeof number);
        return true;
    }
    case dom::element_type::STRING: {
        std::string_view text;
        if (value.get_string().get(text)) { return false; }
        entry.kind = SJ_TEXT;
        entry.text = reinterpret_cast<const uint8_t *>(text.data());
        entry.text_length = uint32_t(text.size());
        return true;
    }
    case dom::element_type::ARRAY:
    case dom::element_type::OBJECT:
        return false;
    }
    return false;
}

void walk(const Node &node, const dom::object &object, Output &output) noexcept;

// Takes what the paths through `node` want of the value of its key. Recursion ends with the
// segments of the longest path, whatever the depth of the event.
void take(const Node &node, const dom::element &value, Output &output) noexcept {
    sj_entry entry;
    dom::object object;
    dom::array array;
    if (!value.get_object().get(object)) {
        if (!node.children.empty()) { walk(node, object, output); }
    } else if (!value.get_array().get(array)) {
        for (dom::element element : array) {
            if (!node.children.empty() && !element.get_object().get(object)) {
                walk(node, object, output);
            } else if (node.columns != 0 && scalar_entry(element, entry)) {
                output.add(node.columns, entry);
            }
        }
    } else if (node.columns != 0 && scalar_entry(value, entry)) {
        output.add(node.columns, entry);
    }
}

// Reads `object` once; of equal keys the first one counts.
void walk(const Node &node, const dom::object &object, Output &output) noexcept {
    const size_t count = node.children.size();
    uint64_t wanted = count == 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1;
    for (auto field = object.begin(); wanted != 0 && field != object.end(); ++field) {
        for (uint64_t rest = wanted; rest != 0; rest &= rest - 1) {
            const int index = __builtin_ctzll(rest);
            const Node &child = *node.children[size_t(index)];
            if (!field.key_equals(child.key)) { continue; }
            wanted &= ~(uint64_t(1) << index);
            take(child, field.value(), output);
            break;
        }
    }
}

// Where the members of one document go.
struct Members {
    sj_member *members;
    size_t max;
    size_t count;

    void add(std::string_view group, std::string_view key, const dom::element &value) noexcept {
        sj_entry entry;
        if (!scalar_entry(value, entry)) { entry = sj_entry{0, nullptr, 0, SJ_CONTAINER}; }
        if (count < max) {
            members[count] = sj_member{reinterpret_cast<const uint8_t *>(group.data()),
                                       reinterpret_cast<const uint8_t *>(key.data()),
                                       uint32_t(group.size()), uint32_t(key.size()), entry};
        }
        count++;
    }

    // Adds a value, or the elements of an array; an array without any as itself.
    void add_all(std::string_view group, std::string_view key, const dom::element &value) noexcept {
        dom::array array;
        if (value.get_array().get(array) || array.size() == 0) { return add(group, key, value); }
        for (dom::element element : array) { add(group, key, element); }
    }
};

int status_of(error_code error) noexcept {
    switch (error) {
    case SUCCESS: return SJ_OBJECT;
    case INCORRECT_TYPE: return SJ_NOT_AN_OBJECT;
    case CAPACITY: return SJ_TOO_LARGE;
    case UTF8_ERROR: return SJ_INVALID_UTF8;
    case EMPTY: return SJ_EMPTY;
    case DEPTH_ERROR: return SJ_TOO_DEEP;
    case STRING_ERROR:
    case UNESCAPED_CHARS:
    case UNCLOSED_STRING: return SJ_BAD_STRING;
    case NUMBER_ERROR:
    case NUMBER_OUT_OF_RANGE: return SJ_BAD_NUMBER;
    case T_ATOM_ERROR:
    case F_ATOM_ERROR:
    case N_ATOM_ERROR: return SJ_BAD_LITERAL;
    default: return SJ_BAD_STRUCTURE;
    }
}

} // namespace

struct sj_extractor {
    dom::parser parser;
    size_t event_bytes_max;
    // simdjson reads up to SIMDJSON_PADDING bytes past the end of its input, which an event in
    // the middle of a received batch does not own: it is copied here.
    std::unique_ptr<uint8_t[]> padded;
    Node root;
    int path_count = 0;

    explicit sj_extractor(size_t bytes_max) : parser(bytes_max), event_bytes_max(bytes_max) {}

    int parse(const uint8_t *event, size_t length, dom::object &object) noexcept {
        if (length > event_bytes_max) { return SJ_TOO_LARGE; }
        if (length == 0) { return SJ_EMPTY; }
        std::memcpy(padded.get(), event, length);
        std::memset(padded.get() + length, 0, SIMDJSON_PADDING);
        dom::element document;
        const error_code error = parser.parse(padded.get(), length, false).get(document);
        if (error) { return status_of(error); }
        return status_of(document.get_object().get(object));
    }
};

extern "C" {

sj_extractor *sj_extractor_new(size_t event_bytes_max, size_t depth_max) {
    try {
        // simdjson's own floor is 32 bytes; below it would allocate on the first event.
        const size_t capacity = event_bytes_max < 64 ? 64 : event_bytes_max;
        auto extractor = std::make_unique<sj_extractor>(capacity);
        extractor->event_bytes_max = event_bytes_max;
        // Not value-initialised: pages that no event reaches are never touched.
        extractor->padded.reset(new uint8_t[capacity + SIMDJSON_PADDING]);
        // simdjson refuses the container that reaches its limit, hence one more.
        if (extractor->parser.allocate(capacity, depth_max + 1)) { return nullptr; }
        if (extractor->parser.doc.allocate(capacity)) { return nullptr; }
        return extractor.release();
    } catch (const std::exception &) {
        return nullptr;
    }
}

void sj_extractor_free(sj_extractor *extractor) { delete extractor; }

int sj_extractor_add_path(sj_extractor *extractor, const uint8_t *dotted, size_t length) {
    if (extractor->path_count == SJ_PATHS_MAX) { return -1; }
    try {
        std::string_view rest(reinterpret_cast<const char *>(dotted), length);
        Node *node = &extractor->root;
        while (true) {
            const size_t dot = rest.find('.');
            node = node->child(rest.substr(0, dot));
            if (dot == std::string_view::npos) { break; }
            rest.remove_prefix(dot + 1);
        }
        node->columns |= uint64_t(1) << extractor->path_count;
        extractor->path_count++;
        return 0;
    } catch (const std::exception &) {
        return -1;
    }
}

int sj_extractor_validate(sj_extractor *extractor, const uint8_t *event, size_t length) {
    dom::object object;
    return extractor->parse(event, length, object);
}

int sj_extractor_extract(sj_extractor *extractor, const uint8_t *event, size_t length,
                         sj_entry *entries, uint32_t *counts, uint64_t *left_out) {
    std::memset(counts, 0, size_t(extractor->path_count) * sizeof *counts);
    *left_out = 0;
    dom::object object;
    const int status = extractor->parse(event, length, object);
    if (status != SJ_OBJECT) { return status; }
    Output output{entries, counts, 0};
    walk(extractor->root, object, output);
    *left_out = output.left_out;
    return SJ_OBJECT;
}

int sj_extractor_members(sj_extractor *extractor, const uint8_t *document, size_t length,
                         sj_member *members, size_t members_max, size_t *count) {
    *count = 0;
    dom::object object;
    const int status = extractor->parse(document, length, object);
    if (status != SJ_OBJECT) { return status; }
    Members output{members, members_max, 0};
    for (auto field : object) {
        dom::object inner;
        if (field.value.get_object().get(inner)) {
            output.add_all(std::string_view(), field.key, field.value);
        } else {
            for (auto member : inner) { output.add_all(field.key, member.key, member.value); }
        }
    }
    *count = output.count;
    return SJ_OBJECT;
}

} // extern "C"

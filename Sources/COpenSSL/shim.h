// OpenSSL 3 with what it declares as function-like macros, which Swift does not import, as
// functions.
#pragma once
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

static inline void copenssl_set_mode(SSL_CTX *context, long set, long cleared) {
    SSL_CTX_set_mode(context, set);
    SSL_CTX_clear_mode(context, cleared);
}

static inline int copenssl_set_min_version(SSL_CTX *context, int version) {
    return SSL_CTX_set_min_proto_version(context, version);
}

static inline void copenssl_disable_session_cache(SSL_CTX *context) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static inline int copenssl_set_server_name(SSL *session, const char *name) {
    return (int)SSL_set_tlsext_host_name(session, name);
}

// The SSL_OP_ constants are macros over a cast.
static inline uint64_t copenssl_common_options(void) {
    return SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF
        | SSL_OP_ENABLE_KTLS;
}

static inline uint64_t copenssl_server_options(void) {
    return SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
}

// Whether the kernel encrypts what the session sends, and decrypts what it receives.
static inline int copenssl_kernel_sends(SSL *session) {
    return BIO_get_ktls_send(SSL_get_wbio(session));
}

static inline int copenssl_kernel_receives(SSL *session) {
    return BIO_get_ktls_recv(SSL_get_rbio(session));
}

// One line, with the characters of other alphabets as they are.
static inline unsigned long copenssl_name_format(void) {
    return XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB;
}

// True of the reason that OpenSSL gives where a passphrase was asked for and refused.
static inline int copenssl_is_cancelled(int reason) {
    return reason == ERR_R_INTERRUPTED_OR_CANCELLED;
}

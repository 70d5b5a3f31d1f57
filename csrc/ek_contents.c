/* ek_contents.c: the key that an EK certificate certifies, and what else it says.
 *
 * Called only for a certificate that an authority vouches for.
 */
#include "certificate.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/x509v3.h>

#include "tpm_public.h"

/* TPM attributes in the directory name of the subjectAltName (TCG EK Credential Profile, 3.2.9). */
static const char *const TPM_MANUFACTURER = "2.23.133.2.1";
static const char *const TPM_MODEL = "2.23.133.2.2";
static const char *const TPM_VERSION = "2.23.133.2.3";

/* ---- texts -------------------------------------------------------------------------------------------------- */

int x509_is_oid(const ASN1_OBJECT *object, const char *oid)
{
    char text[64];
    int len = OBJ_obj2txt(text, sizeof(text), object, 1);
    return len > 0 && (size_t) len < sizeof(text) && strcmp(text, oid) == 0;
}

int x509_name_text(const X509_NAME *name, char *ret_text, size_t size)
{
    BIO *out = BIO_new(BIO_s_mem());
    if (out == NULL || X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253) < 0) {
        BIO_free(out);
        return 0;
    }
    char *text;
    long len = BIO_get_mem_data(out, &text);
    int fits = len >= 0 && (size_t) len < size;
    if (fits && len > 0)
        memcpy(ret_text, text, (size_t) len);
    if (fits)
        ret_text[len] = '\0';
    BIO_free(out);
    return fits;
}

/* ---- the key ------------------------------------------------------------------------------------------------ */

EVP_PKEY *ek_oaep_key(const X509 *certificate)
{
    ASN1_OBJECT *algorithm;
    const unsigned char *bytes;
    int len;
    if (X509_PUBKEY_get0_param(&algorithm, &bytes, &len, NULL, X509_get_X509_PUBKEY(certificate)) != 1 ||
        OBJ_obj2nid(algorithm) != NID_rsaesOaep)
        return NULL;
    return d2i_PublicKey(EVP_PKEY_RSA, NULL, &bytes, len);
}

static tccp_status read_rsa(EVP_PKEY *key, tccp_ek_certificate *ek)
{
    uint8_t modulus[TCCP_RSA_BYTES_MAX];
    BIGNUM *n = NULL, *e = NULL;
    int bits = EVP_PKEY_get_bits(key);
    int ok = (bits == 2048 || bits == 3072 || bits == 4096) &&
             EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
             EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_word(e, 65537) && BN_is_odd(n);
    if (ok)
        ek->spki_len = tpm_rsa_spki(modulus, (size_t) BN_bn2bin(n, modulus), ek->spki);
    BN_free(n);
    BN_free(e);
    return ok ? TCCP_OK : TCCP_ERR_UNSUPPORTED;
}

static tccp_status read_ecc(EVP_PKEY *key, tccp_ek_certificate *ek)
{
    char group[32];
    uint8_t x[TCCP_ECC_BYTES_MAX], y[TCCP_ECC_BYTES_MAX];
    if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1)
        return TCCP_ERR_UNSUPPORTED;
    int nid = OBJ_sn2nid(group);
    if (nid != NID_X9_62_prime256v1 && nid != NID_secp384r1)
        return TCCP_ERR_UNSUPPORTED;
    uint16_t curve = nid == NID_secp384r1 ? TPM_ECC_NIST_P384 : TPM_ECC_NIST_P256;
    int size = (int) tpm_curve_bytes(curve);
    BIGNUM *x_number = NULL, *y_number = NULL;
    int ok = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x_number) == 1 &&
             EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y_number) == 1 &&
             BN_bn2binpad(x_number, x, size) == size && BN_bn2binpad(y_number, y, size) == size;
    if (ok)
        ek->spki_len = tpm_ecc_spki(curve, x, y, ek->spki);
    BN_free(x_number);
    BN_free(y_number);
    return ok ? TCCP_OK : TCCP_ERR_INTERNAL;
}

/* The SPKI is made anew from the numbers, so that it equals that of the TPM's public area byte by byte. */
static tccp_status read_key(const X509 *certificate, tccp_ek_certificate *ek)
{
    EVP_PKEY *key = ek_oaep_key(certificate);
    if (key == NULL)
        key = X509_get_pubkey((X509 *) certificate);
    if (key == NULL)
        return TCCP_ERR_UNSUPPORTED;
    tccp_status status = TCCP_ERR_UNSUPPORTED;
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        status = read_rsa(key, ek);
    else if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC)
        status = read_ecc(key, ek);
    EVP_PKEY_free(key);
    return status;
}

/* ---- what it says ------------------------------------------------------------------------------------------- */

static tccp_status tpm_text(const X509_NAME_ENTRY *entry, char ret_text[TCCP_TPM_TEXT_BYTES])
{
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
    if (len < 0)
        return TCCP_ERR_MALFORMED;
    tccp_status status = len < TCCP_TPM_TEXT_BYTES ? TCCP_OK : TCCP_ERR_TOO_LARGE;
    for (int i = 0; status == TCCP_OK && i < len; i++)
        ret_text[i] = utf8[i] >= 0x20 && utf8[i] < 0x7f ? (char) utf8[i] : '?';
    if (status == TCCP_OK)
        ret_text[len] = '\0';
    OPENSSL_free(utf8);
    return status;
}

static tccp_status read_directory_name(const X509_NAME *name, tccp_ek_certificate *ek)
{
    tccp_status status = TCCP_OK;
    for (int i = 0; status == TCCP_OK && i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const ASN1_OBJECT *attribute = X509_NAME_ENTRY_get_object(entry);
        if (x509_is_oid(attribute, TPM_MANUFACTURER))
            status = tpm_text(entry, ek->manufacturer);
        else if (x509_is_oid(attribute, TPM_MODEL))
            status = tpm_text(entry, ek->model);
        else if (x509_is_oid(attribute, TPM_VERSION))
            status = tpm_text(entry, ek->version);
    }
    return status;
}

static tccp_status read_tpm_attributes(const X509 *certificate, tccp_ek_certificate *ek)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    tccp_status status = TCCP_OK;
    for (int i = 0; status == TCCP_OK && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DIRNAME)
            status = read_directory_name(name->d.directoryName, ek);
    }
    GENERAL_NAMES_free(names);
    return status;
}

int x509_time_s(const ASN1_TIME *time, int64_t *ret_s)
{
    int days, seconds;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int ok = epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, time) == 1;
    ASN1_TIME_free(epoch);
    if (ok)
        *ret_s = (int64_t) days * 86400 + seconds;
    return ok;
}

static tccp_status read_serial(const X509 *certificate, char ret_text[TCCP_SERIAL_BYTES])
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *text = number == NULL ? NULL : BN_bn2hex(number);
    BN_free(number);
    if (text == NULL)
        return TCCP_ERR_MALFORMED;
    tccp_status status = strlen(text) < TCCP_SERIAL_BYTES ? TCCP_OK : TCCP_ERR_TOO_LARGE;
    if (status == TCCP_OK)
        memcpy(ret_text, text, strlen(text) + 1);
    OPENSSL_free(text);
    return status;
}

static tccp_status read_texts(const X509 *certificate, tccp_ek_certificate *ek)
{
    if (X509_digest(certificate, EVP_sha256(), ek->sha256, NULL) != 1)
        return TCCP_ERR_INTERNAL;
    if (!x509_name_text(X509_get_subject_name(certificate), ek->subject, sizeof(ek->subject)) ||
        !x509_name_text(X509_get_issuer_name(certificate), ek->issuer, sizeof(ek->issuer)))
        return TCCP_ERR_TOO_LARGE;
    tccp_status status = read_serial(certificate, ek->serial);
    if (status == TCCP_OK && (!x509_time_s(X509_get0_notBefore(certificate), &ek->not_before_s) ||
                              !x509_time_s(X509_get0_notAfter(certificate), &ek->not_after_s)))
        status = TCCP_ERR_MALFORMED;
    if (status == TCCP_OK)
        status = read_tpm_attributes(certificate, ek);
    return status;
}

tccp_status ek_contents_read(const X509 *certificate, tccp_ek_certificate *ek)
{
    tccp_status status = read_key(certificate, ek);
    return status == TCCP_OK ? read_texts(certificate, ek) : status;
}

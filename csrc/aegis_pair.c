/* aegis_pair.c: AEGIS-256, two messages in the halves of vectors of 256 bits.
 *
 * Source: draft-irtf-cfrg-aegis-aead, section 5 (AEGIS-256); the state is S0 to S5 as there. The messages share the key
 * and differ in their nonces, so the halves never hold the same.
 */
#include "aegis_pair.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>

#define WITH_VAES __attribute__((target("avx2,vaes")))
#define INLINE_VAES static inline __attribute__((always_inline)) WITH_VAES

enum { BLOCK_BYTES = 16, ROUNDS_INIT = 4, ROUNDS_FINAL = 7 };

typedef struct state {
    __m256i s[6];
} state;

static bool available;
static pthread_once_t decided = PTHREAD_ONCE_INIT;

/* Once: on a virtual machine every CPUID goes to the host. Not every compiler has a name for VAES. */
static void decide(void)
{
    unsigned int eax, ebx, ecx = 0, edx;
    available = __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
                (ecx & bit_VAES) != 0;
}

bool aegis_pair_available(void)
{
    return pthread_once(&decided, decide) == 0 && available;
}

INLINE_VAES __m256i load_both(const uint8_t *first, const uint8_t *second)
{
    const __m128i low = _mm_loadu_si128((const __m128i *) first);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((const __m128i *) second), 1);
}

INLINE_VAES void store_both(uint8_t *first, uint8_t *second, __m256i both)
{
    _mm_storeu_si128((__m128i *) first, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *) second, _mm256_extracti128_si256(both, 1));
}

/* Update(M), section 5.3. The message comes last, since in decryption it is known last. */
INLINE_VAES void update(state *at, __m256i message)
{
    const __m256i last = at->s[5];
    at->s[5] = _mm256_aesenc_epi128(at->s[4], at->s[5]);
    at->s[4] = _mm256_aesenc_epi128(at->s[3], at->s[4]);
    at->s[3] = _mm256_aesenc_epi128(at->s[2], at->s[3]);
    at->s[2] = _mm256_aesenc_epi128(at->s[1], at->s[2]);
    at->s[1] = _mm256_aesenc_epi128(at->s[0], at->s[1]);
    at->s[0] = _mm256_xor_si256(_mm256_aesenc_epi128(last, at->s[0]), message);
}

INLINE_VAES __m256i key_stream(const state *at)
{
    const __m256i and = _mm256_and_si256(at->s[2], at->s[3]);
    return _mm256_xor_si256(_mm256_xor_si256(at->s[1], at->s[4]), _mm256_xor_si256(at->s[5], and));
}

/* Init(key, nonce), section 5.2. */
static WITH_VAES state begin(const aead_pair *messages, const uint8_t *key)
{
    static const uint8_t c0[BLOCK_BYTES] = {0x00, 0x01, 0x01, 0x02, 0x03, 0x05, 0x08, 0x0d,
                                            0x15, 0x22, 0x37, 0x59, 0x90, 0xe9, 0x79, 0x62};
    static const uint8_t c1[BLOCK_BYTES] = {0xdb, 0x3d, 0x18, 0x55, 0x6d, 0xc2, 0x2f, 0xf1,
                                            0x20, 0x11, 0x31, 0x42, 0x73, 0xb5, 0x28, 0xdd};
    const uint8_t *const *nonces = messages->nonces;
    const __m256i k0 = load_both(key, key), k1 = load_both(key + BLOCK_BYTES, key + BLOCK_BYTES);
    const __m256i k0_n0 = _mm256_xor_si256(k0, load_both(nonces[0], nonces[1]));
    const __m256i k1_n1 = _mm256_xor_si256(k1, load_both(nonces[0] + BLOCK_BYTES, nonces[1] + BLOCK_BYTES));
    const __m256i both_c0 = load_both(c0, c0), both_c1 = load_both(c1, c1);
    state at = {{k0_n0, k1_n1, both_c1, both_c0, _mm256_xor_si256(k0, both_c0), _mm256_xor_si256(k1, both_c1)}};
    for (int i = 0; i < ROUNDS_INIT; i++) {
        update(&at, k0);
        update(&at, k1);
        update(&at, k0_n0);
        update(&at, k1_n1);
    }
    return at;
}

/* Finalize(0, len), section 5.7, with the longer tag. */
static WITH_VAES void finish(state *at, size_t len, uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
    const __m256i bits = _mm256_set_epi64x((long long) (8 * len), 0, (long long) (8 * len), 0);
    const __m256i lengths = _mm256_xor_si256(at->s[3], bits);
    for (int i = 0; i < ROUNDS_FINAL; i++)
        update(at, lengths);
    store_both(ret_tags[0], ret_tags[1], _mm256_xor_si256(_mm256_xor_si256(at->s[0], at->s[1]), at->s[2]));
    store_both(ret_tags[0] + BLOCK_BYTES, ret_tags[1] + BLOCK_BYTES,
               _mm256_xor_si256(_mm256_xor_si256(at->s[3], at->s[4]), at->s[5]));
}

WITH_VAES void aegis_pair_encrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                                  uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
    state at = begin(messages, key);
    for (size_t i = 0; i < len; i += BLOCK_BYTES) {
        const __m256i message = load_both(messages->from[0] + i, messages->from[1] + i);
        store_both(messages->to[0] + i, messages->to[1] + i, _mm256_xor_si256(message, key_stream(&at)));
        update(&at, message);
    }
    finish(&at, len, ret_tags);
}

WITH_VAES void aegis_pair_decrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                                  uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
    state at = begin(messages, key);
    for (size_t i = 0; i < len; i += BLOCK_BYTES) {
        const __m256i sealed = load_both(messages->from[0] + i, messages->from[1] + i);
        const __m256i message = _mm256_xor_si256(sealed, key_stream(&at));
        store_both(messages->to[0] + i, messages->to[1] + i, message);
        update(&at, message);
    }
    finish(&at, len, ret_tags);
}

#else /* nobody asks */

bool aegis_pair_available(void)
{
    return false;
}

void aegis_pair_encrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                        uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
}

void aegis_pair_decrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                        uint8_t ret_tags[2][AEAD_TAG_BYTES])
{
}

#endif

/* aegis_pair.h: AEGIS-256 of two messages at once, on CPUs that have AES for vectors; for aead.c alone.
 *
 * A step of AEGIS-256 waits for the step before, longer than the CPU needs to work on it: most of all in decryption, where the
 * plaintext goes into the state from which the next key stream comes. Two messages fill each other's waiting. */
#ifndef TCCP_AEGIS_PAIR_H
#define TCCP_AEGIS_PAIR_H

#include "aead.h"

/* Whether this CPU has what the functions below need. */
bool aegis_pair_available(void);

/* As two calls of libsodium's functions with empty associated data: len is a multiple of 16, up to 2^32. In place is
 * allowed. Decryption gives the tags that the messages should have; nobody has compared them yet. */
void aegis_pair_encrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                        uint8_t ret_tags[2][AEAD_TAG_BYTES]);
void aegis_pair_decrypt(const aead_pair *messages, size_t len, const uint8_t key[AEAD_KEY_BYTES],
                        uint8_t ret_tags[2][AEAD_TAG_BYTES]);

#endif /* TCCP_AEGIS_PAIR_H */

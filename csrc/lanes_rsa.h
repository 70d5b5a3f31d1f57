/* lanes_rsa.h: RSA public operations with AVX-512 IFMA: signature ^ 65537 modulo the modulus. */
#ifndef TCCP_LANES_RSA_H
#define TCCP_LANES_RSA_H

#include "ak.h"
#include "digits.h"

enum { RSA_LANES = 8 };

/* signatures[i] ^ 65537 modulo the modulus of aks[i]. All keys have the same size; each signature has that size and is
 * less than its modulus. Only on a CPU with AVX-512 F and IFMA. */
void lanes_rsa_power(const tccp_ak *const aks[RSA_LANES], const uint8_t *const signatures[RSA_LANES],
                     uint8_t ret_powers[RSA_LANES][TCCP_RSA_BYTES_MAX]);

/* The same of one signature: the vectors hold one number. */
void lanes_rsa_power_one(const tccp_ak *ak, const uint8_t *signature, uint8_t ret_power[TCCP_RSA_BYTES_MAX]);

#endif /* TCCP_LANES_RSA_H */

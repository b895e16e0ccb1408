/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel of fill_words.h. Device code for clang without a CUDA toolkit: see
 * tests/support/busy.cu. */
extern "C" __attribute__((global)) void fill_words(unsigned *target, unsigned value, unsigned count)
{
	const unsigned at = __nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +
			    __nvvm_read_ptx_sreg_tid_x();

	if (at < count)
		target[at] = value + at;
}

/* layout.c: where the kernel keeps what.
 *
 * The order of the areas is Linux's (Documentation/arch/riscv/vm-layout.rst, linux 6.12): vmemmap,
 * vmalloc, the linear map, then modules and text in the last 4 GiB. The starts are those of that
 * page for Sv39, Sv48 and Sv57. Sizes are cut to what a simulated run can fill; nothing depends on
 * where an area ends except the test which area an address lies in.
 */
#include "csim.h"

void csim_layout(uint32_t levels, struct csim_layout *layout)
{
    static const struct { uint64_t pci_io, vmemmap, vmalloc, linear; } rows[] = {
        {UINT64_C(0xffffffc4fe000000), UINT64_C(0xffffffc500000000),
         UINT64_C(0xffffffc600000000), UINT64_C(0xffffffd600000000)},
        {UINT64_C(0xffff8d7ffe000000), UINT64_C(0xffff8d8000000000),
         UINT64_C(0xffff8f8000000000), UINT64_C(0xffffaf8000000000)},
        {UINT64_C(0xff1bfffffe000000), UINT64_C(0xff1c000000000000),
         UINT64_C(0xff20000000000000), UINT64_C(0xff60000000000000)},
    };
    uint32_t row = levels - 3;
    layout->pci_io_first = rows[row].pci_io;
    layout->pci_io_end = rows[row].vmemmap;
    layout->vmemmap_first = rows[row].vmemmap;
    layout->vmemmap_end = rows[row].vmalloc;
    layout->vmalloc_first = rows[row].vmalloc;
    layout->vmalloc_end = rows[row].linear;
    layout->linear_first = rows[row].linear;
    layout->linear_end = UINT64_C(0xfffffffefff00000);
    layout->module_first = UINT64_C(0xffffffff00000000);
    layout->module_end = UINT64_C(0xffffffff80000000);
    layout->text_first = UINT64_C(0xffffffff80000000);
    layout->text_end = UINT64_C(0xfffffffffff00000);
    layout->user_first = UINT64_C(0x10000);
    layout->user_end = UINT64_C(1) << (9 * levels + 11);
}

# Bytes without sense are refused, whatever they are, and the guest is served after them.
case 314
version 5.3
offer
G> hex ff*240
G> hex 05000000 ff*232
G> hex 08000000 00000000 ffffffff ffffffff ffff ffff
G< GPADL_CREATED relid=0xffffffff gpadl=0xffffffff status=UNSUCCESSFUL
G> hex 09000000 00000000 00000000 ff*7
G> hex 7365637265742067 617262616765
G> hex 00
= connected 5.3
open relid=1

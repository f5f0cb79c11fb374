# Ranges that cannot be are answered with a failure, and the handle stays free.
case 087 088 089
version 5.3
offer
# an offset outside the page
G> GPADL_HEADER relid=1 gpadl=1 bytes=4096 byte_offset=0x1000 pfns=16,17
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# no bytes
G> GPADL_HEADER relid=1 gpadl=1 bytes=0 pfns=16
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# fewer pages than the bytes need
G> GPADL_HEADER relid=1 gpadl=1 bytes=8193 pfns=16,17
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# a range too few
G> GPADL_HEADER relid=1 gpadl=1 count=2 words=0x1000,16
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# no range at all
G> GPADL_HEADER relid=1 gpadl=1 count=0 words=0x1000,16
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# nothing announced
G> GPADL_HEADER relid=1 gpadl=1 length=0 count=1
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
# 32 bits are not enough
G> GPADL_HEADER relid=1 gpadl=1 bytes=0xFFFFFFFF byte_offset=0xFFF pfns=16
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
G> GPADL_HEADER relid=1 gpadl=1 count=0xFFFF words=0x1000,16
G< GPADL_CREATED gpadl=1 status=UNSUCCESSFUL
H< silence
gpadl relid=1 gpadl=1

# One range of one page, byte for byte.
case 081
version 5.3
offer
G> GPADL_HEADER relid=1 gpadl=1 length=16 count=1 words=0x1000,16
H< gpadl relid=1 gpadl=1 count=1 words=0x1000,16
G< silence
H> done(0)
G< GPADL_CREATED relid=1 gpadl=1 status=OK @size=20

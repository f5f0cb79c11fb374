# 55 pages: a full header, a full body, and one page more.
case 082 083
side guest
version 5.3
offer relid=5
A> open relid=5 pages=55
G> GPADL_HEADER relid=5 pages=26 bytes=225280 length=448
G> GPADL_BODY pages=28 @size=240
G> GPADL_BODY pages=1 @size=24

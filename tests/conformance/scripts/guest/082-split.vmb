# How a buffer is split: 26 pages in a header, 28 words in a body.
case 082 083
side guest
version 5.3
offer relid=5
A> open relid=5 pages=26
G> GPADL_HEADER relid=5 pages=26 @size=236
A> lost
A< error op=open kind=LinkLost

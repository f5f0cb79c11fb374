# 121 bytes of user data are refused before anything is sent.
case 068 308
side guest
version 5.3
offer relid=5
A> open relid=5 user=00*121
A< error op=open kind=UsageError text=121
A> open relid=5 pages=8191
A< error op=open kind=UsageError
G> silence
A> open relid=5 user=00*120
G> GPADL_HEADER

# A body without a header, or after the last one, has no answer.
case 094
version 5.3
offer
G> GPADL_BODY gpadl=9 pfns=1,2,3
= refused 1
gpadl gpadl=9
G> GPADL_BODY gpadl=9 pfns=1,2,3
= refused 2
G< silence

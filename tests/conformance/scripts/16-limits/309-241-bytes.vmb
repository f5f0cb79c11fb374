# A message of 241 bytes is refused before it is looked at.
case 309
version 5.3
offer
G> REQUEST_OFFERS @size=241
G> hex 07000000 00000000 01000000 00*229
G> hex 00*5000
= refused 3
= connected 5.3

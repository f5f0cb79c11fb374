# 5.3 has no features, so the messages of 6.0 are refused.
case 021
version 5.3
G> MODIFY_CONNECTION page1=0 page2=0
G> PAUSE
G> RESUME
= refused 3
= connected 5.3

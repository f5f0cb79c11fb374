# 6.0 without features: none is granted, and no message that needs one is heard.
case 006 021
G> INITIATE_CONTACT version=6.0
G< VERSION_RESPONSE supported=1 features=0 @size=20
= features 0
G> MODIFY_CONNECTION page1=0 page2=0
G> PAUSE
G> RESUME
= refused 3
= connected 6.0

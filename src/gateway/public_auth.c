#include "gateway/public_auth.h"

void public_auth_start(struct request *request)
{
	request_reply_error(request, ERR_SERVICE_UNAVAILABLE, NULL, 0);
}

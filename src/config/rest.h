/*
 * rest: what GATEWAY_CONFIG_FILE says of the API gateway: `descriptor_sets` and the section `rest`
 * (api.md §1). Plain values in the file's arena, immutable. What only descriptors can tell (is
 * there such an RPC, do two routes collide) is for the room that has them; each value that can be
 * wrong then has its place. Any thread reads.
 */
#ifndef CONFIG_REST_H
#define CONFIG_REST_H

#include "base/arena.h"

#include <stdint.h>

#define REST_DESCRIPTOR_SETS_MAX 64
#define REST_SERVICES_MAX	 256
#define REST_ROUTES_MAX		 4096
#define REST_GRPC_WEB_MAX	 256
#define REST_ORIGINS_MAX	 256
#define REST_TEXT_MAX		 1024 /* bytes of a path, a name, a permission, an origin */
#define REST_SCOPES_MAX		 32

/* Where it is in the file; both from 1. */
struct config_place {
	uint32_t line, column;
};

/* NUL-terminated in the arena. text: NULL when there is none. */
struct config_text {
	const char *text;
	struct config_place place;
};

struct config_texts {
	struct config_text *items;
	size_t count;
};

/* All RPCs of a service by their google.api.http annotations. */
struct config_rest_service {
	struct config_text service; /* "auth.v1.AuthService" */
	uint32_t upstream;	    /* index */
	bool is_public;		    /* no session is asked for */
};

struct config_rest_route {
	struct config_text method;	  /* "GET"; upper case */
	struct config_text path;	  /* template, base_path included where it applies */
	struct config_text rpc;		  /* "auth.v1.AuthService/GetUser" */
	struct config_text permission;	  /* or none */
	struct config_text body;	  /* "*", a field, or none */
	struct config_text response_body; /* a field, or none */
	uint32_t upstream;		  /* index */
	bool is_public;			  /* no session is asked for */
	bool is_absolute;		  /* base_path is not part of its path */
};

struct config_rest_auth {
	bool set;
	uint32_t upstream;	    /* index */
	const char *cookie;	    /* "session_token" */
	uint64_t validate_cache_ms; /* 0: ask every time; 5s */
};

struct config_rest_sso {
	bool set;
	struct config_place place; /* of the section */
	const char *provider;	   /* "google"; a segment of the paths below /auth */
	const char *authorize_url; /* https, or http to a loopback address */
	const char *client_id;
	const char *scopes;		    /* "openid email profile" */
	const char *hosted_domain;	    /* sent as hd; NULL: none */
	struct config_text cookie_key_file; /* a path that can be opened from here */
	const char *redirect_url;
	const char *callback_path; /* of redirect_url, as browsers see it */
	const char *after_login;   /* "/" */
};

struct config_rest_cors {
	struct config_texts origins; /* none: no CORS headers; "*" only without credentials */
	bool credentials;
	uint64_t max_age_s; /* 10m */
};

struct config_rest {
	const char *base_path;		     /* "/api/v1": begins with '/', ends without; or "" */
	struct config_texts descriptor_sets; /* paths that can be opened from here */
	struct config_rest_auth auth;
	struct config_rest_service *services;
	size_t service_count;
	struct config_rest_route *routes;
	size_t route_count;
	struct {
		bool print_defaults, ignore_unknown_query, ignore_unknown_body;
	} json;
	struct config_texts grpc_web;
	struct config_rest_sso sso;
	struct config_rest_cors cors;
	struct config_texts allowed_origins;
};

#endif

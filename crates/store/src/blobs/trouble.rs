//! What went wrong with an object, in words. An S3 server's answer repeats parts of the request, access keys among
//! them: of its text only the code and the message are told.

use std::error::Error;

use object_store::Error as Failed;

/// What happened and what to try.
pub(crate) fn told(err: &Failed) -> String {
    let text = err.to_string();
    let answer = tag(&text, "Code");
    let what = match (&answer, tag(&text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.clone(),
        (None, _) => deepest(err),
    };
    match advice(err, answer.as_deref().unwrap_or_default()) {
        "" => what,
        attempt => format!("{what}; {attempt}"),
    }
}

/// The object is not there, as opposed to the bucket.
pub(crate) fn is_absent(err: &Failed) -> bool {
    let is_bucket = || tag(&err.to_string(), "Code").is_some_and(|it| it == "NoSuchBucket");
    matches!(err, Failed::NotFound { .. }) && !is_bucket()
}

fn advice(err: &Failed, code: &str) -> &'static str {
    const KEYS: &str = "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or at the role";
    match code {
        "NoSuchBucket" => "make the bucket first, or correct its name",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => KEYS,
        "AccessDenied" => {
            "the credentials need s3:ListBucket on the bucket, and s3:GetObject, \
                           s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload on what is in it"
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
            "the bucket is in another region: `?region=REGION` or AWS_REGION"
        }
        "RequestTimeTooSkewed" => "set this machine's clock",
        _ => match err {
            Failed::PermissionDenied { .. } | Failed::Unauthenticated { .. } => KEYS,
            _ if err.to_string().contains("169.254.") => {
                "no credentials are in the environment, and this machine has none of its own: \
                 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            }
            _ => "",
        },
    }
}

fn tag(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once('<')?;
    Some(inside.chars().filter(|it| !it.is_control()).take(300).collect())
}

/// The first cause says most, and names no request.
fn deepest(err: &Failed) -> String {
    let mut cause: &dyn Error = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    match text.find('<') {
        // An answer that is no error of S3: a page of some proxy, perhaps.
        Some(at) => text[..at].trim_end_matches([':', ' ']).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;

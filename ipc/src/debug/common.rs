//! The gRPC service that all services have.

use super::{
    proto::{
        GetPolicyRequest, GetPolicyResponse, GetStatsRequest, GetStatsResponse, GetVersionRequest, GetVersionResponse, Rule,
        SetLogFilterRequest, SetLogFilterResponse, debug_server::Debug,
    },
    stats::Stats,
};
use crate::{confine::Policy, service::LogFilter};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What it answers from.
#[derive(Clone)]
pub(crate) struct Common {
    pub service: &'static str,
    pub sandbox: String,
    pub log_filter: LogFilter,
    pub stats: Arc<Stats>,
    pub policy: Arc<Policy>,
    pub landlock: bool,
}

#[tonic::async_trait]
impl Debug for Common {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse {
            service: self.service.to_owned(),
            sandbox: self.sandbox.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn set_log_filter(&self, request: Request<SetLogFilterRequest>) -> Result<Response<SetLogFilterResponse>, Status> {
        match self.log_filter.set(&request.into_inner().filter) {
            Ok(previous) => Ok(Response::new(SetLogFilterResponse { previous })),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        }
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        self.stats.now().map(Response::new).map_err(|errno| Status::internal(format!("cannot read the statistics: {errno}")))
    }

    async fn get_policy(&self, _: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let rules = self.policy.rules().iter().map(|rule| Rule {
            call: rule.call(),
            reason: rule.reason.clone(),
            fragment: rule.fragment.unwrap_or_default().to_owned(),
        });
        Ok(Response::new(GetPolicyResponse { rules: rules.collect(), landlock: self.landlock }))
    }
}
